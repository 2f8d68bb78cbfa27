//! CRI v1 client, pod spec to CRI requests, and a recording fake.
