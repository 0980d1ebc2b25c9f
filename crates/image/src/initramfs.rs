//! The initramfs: our init and the modules that it loads.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use cpio::newc::Builder;
use hypeman_files::AtPath;

use crate::compression::decompressed;
use crate::error::Result;
use crate::modules::Modules;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// Writes an initramfs to `path`, for a kernel whose modules lie in `modules`; without them the
/// kernel has to have all it needs built in.
///
/// # Errors
/// When a module that no VM can do without is missing, or the disk is full.
pub(crate) fn write(modules: Option<&Path>, init: &Path, path: &Path) -> Result<()> {
    let file = File::create_new(path).at(path)?;
    let mut archive = BufWriter::new(&file);
    for name in ["dev", "proc", "sys", "modules"] {
        append(&mut archive, name, DIRECTORY, &[]).at(path)?;
    }
    append(&mut archive, "init", PROGRAM, &std::fs::read(init).at(init)?).at(path)?;
    if let Some(modules) = modules {
        let mut list = String::new();
        for file in Modules::read(modules)?.resolve()? {
            let source = modules.join(&file);
            let name = file.rsplit('/').next().and_then(|base| base.split(".ko").next()).unwrap_or(&file);
            append(&mut archive, &format!("modules/{name}.ko"), FILE, &read_module(&source)?).at(path)?;
            list.push_str(&format!("{name}.ko\n"));
        }
        append(&mut archive, "modules.list", FILE, list.as_bytes()).at(path)?;
    }
    cpio::newc::trailer(&mut archive).at(path)?.flush().at(path)?;
    drop(archive);
    Ok(file.sync_all().at(path)?)
}

fn append(archive: &mut impl Write, name: &str, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    let size = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let mut writer = Builder::new(name).mode(mode).nlink(1).write(archive, size);
    writer.write_all(bytes)?;
    writer.finish().map(drop)
}

/// A module, decompressed: not every kernel can do that itself (`CONFIG_MODULE_DECOMPRESS`).
fn read_module(path: &Path) -> Result<Vec<u8>> {
    let mut file = File::open(path).at(path)?;
    let mut bytes = Vec::new();
    decompressed(&mut file).and_then(|mut reader| reader.read_to_end(&mut bytes)).at(path)?;
    Ok(bytes)
}
