"""What may be done to tokens, shares and JWTs, and by whom: each rule once, whoever calls.

Every call opens one transaction, re-reads its caller in it, and writes its entry in the change
feed. Nothing here knows HTTP, the command line or a framework.
"""
