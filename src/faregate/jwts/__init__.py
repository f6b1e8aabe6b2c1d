"""JWTs of trusted issuers: their keys, their claims, and the text itself (RFC 7519, RFC 9068).

This is the only room that imports PyJWT, and the only one that fetches anything over the network.
It says what a JWT claims. Whether that is enough is judged elsewhere.
"""
