//! Cargo's build script: writes the command table (see `generate.rs`) to `OUT_DIR`.
//!
//! Must not look at anything but `commands.tsv`: the same file gives the same table, byte for byte.

mod generate;
mod pack;

use std::path::Path;

const SOURCE: &str = "src/command/commands.tsv";

fn main() -> Result<(), String> {
    for file in [SOURCE, "src/command/build.rs", "src/command/generate.rs", "src/command/pack.rs"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let tsv = std::fs::read_to_string(SOURCE).map_err(|e| format!("{SOURCE}: {e}"))?;
    let table = generate::generate(&tsv).map_err(|e| format!("{SOURCE}: {e}"))?;
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run by cargo only")?;
    std::fs::write(Path::new(&out).join("commands.rs"), table).map_err(|e| format!("cannot write the table: {e}"))
}
