use std::path::Path;

use flotilla_base::{BootId, ByteLen, codec};
use flotilla_runtime::{Disk, read_file, write_file};

use crate::StartError;

const FORMAT: u8 = 1;
const LIMIT: ByteLen = ByteLen(64);

/// The number of this start, durable before it is used: operations of two starts are never taken for one another. Blocks.
pub(crate) fn next_boot(disk: &dyn Disk, dir: &Path) -> Result<BootId, StartError> {
    let path = dir.join("boot");
    let io = |operation| {
        let path = path.clone();
        move |source| StartError::Io { operation, path, source }
    };
    let record = |source| StartError::Record { path: path.clone(), source };
    disk.create_dir(dir).map_err(io("create the folder of"))?;
    let last: u64 = match read_file(disk, &path, LIMIT.0).map_err(io("read"))? {
        Some(bytes) => codec::decode_version(FORMAT, LIMIT, &bytes).map_err(record)?,
        None => 0,
    };
    let next = last.saturating_add(1);
    write_file(disk, &path, &codec::encode(FORMAT, &next).map_err(record)?).map_err(io("write"))?;
    Ok(BootId(next))
}
