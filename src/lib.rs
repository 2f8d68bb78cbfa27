//! Troupe: a container orchestrator that speaks the Kubernetes API, built as a troupe of supervised actors.
