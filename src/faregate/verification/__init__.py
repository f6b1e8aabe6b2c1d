"""The steps of a verification: read the credential, look it up, judge it, note its use.

The result is a principal, or Denied. A record is not changed, except for the instant of its last
use.
"""
