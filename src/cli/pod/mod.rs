//! `podctl`'s commands: arguments, one library call, print.

pub mod image;
