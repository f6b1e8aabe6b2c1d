"""JWTs of trusted issuers: their keys, their claims and the compact text (RFC 7519, RFC 9068).

This is the only room that imports PyJWT, and the only room that fetches over the network.
It returns the claims of a JWT. Other rooms decide whether they are enough for a request.
"""
