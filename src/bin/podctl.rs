//! `podctl`: the pod command.

fn main() {
    std::process::exit(seedpod::cli::pod::main());
}
