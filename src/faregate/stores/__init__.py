"""Where records live. SQLAlchemy is loaded when a store is opened, not before."""
