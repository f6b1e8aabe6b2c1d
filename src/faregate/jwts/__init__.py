"""JWTs of trusted issuers: their keys, their claims and the compact text (RFC 7519, RFC 9068).

This is the only room that fetches over the network. PyJWT is imported here, and where the gate
signs share tokens of its own. It returns the claims of a JWT. Other rooms decide whether they are
enough for a request.
"""
