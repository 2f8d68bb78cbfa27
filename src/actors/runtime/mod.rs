//! Supervisor, traced envelope, key queue, cache, clock, recorder and directory of live actors.
