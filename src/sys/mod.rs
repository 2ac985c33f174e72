//! Thin wrappers, one system call each: the only unsafe code. See docs/architecture.md.

#![allow(unsafe_code)]

pub mod xattr;
