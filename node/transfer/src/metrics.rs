//! What the data plane counts.
