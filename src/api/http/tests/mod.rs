//! The front door over TLS on a port of its own, with a service in memory.
