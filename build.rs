//! How the program is linked.

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script by its environment")]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    // A program that is loaded at a fixed address starts in half the time (1.1 ms instead of 2.2 ms of processor time):
    // the loader has no 48,000 addresses to correct, nor 900 KB of pages to copy for that. A run with nothing to do
    // takes 5 ms in all.
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
