//! The `titer` program: all of it is in the library.

#[cfg(feature = "candle")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    titer::cli::main()
}
