//! `seedpod`: the OCI runtime.

fn main() {}
