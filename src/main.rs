//! `seedpod`: the OCI runtime.

fn main() {
    let words = std::env::args_os().skip(1).collect();
    std::process::exit(seedpod::cli::runtime::main(words));
}
