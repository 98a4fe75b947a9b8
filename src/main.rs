//! The `titer` program: all of it is in the library.

fn main() -> std::process::ExitCode {
    titer::cli::main()
}
