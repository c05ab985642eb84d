//! What the use cases count.
