//! `podctl`: the pod command.

fn main() {}
