//! The real binary again, as a target of this package: Cargo then builds it before the tests run and tells them where
//! it is (`CARGO_BIN_EXE_flotilla-under-test`), which it does for no other package's binaries.

fn main() {}
