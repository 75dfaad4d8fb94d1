//! A model whose load lasts until a test lets it go.
//!
//! Its file is one hole of more bytes than anybody reads in the time that a test takes. It takes
//! no room, and ends where the reader is when it is cut off.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use crate::folder::ModelFolder;

/// A model that cannot be loaded, which turns out when the test says so.
#[derive(Debug)]
pub struct HeldModel {
    path: PathBuf,
}

impl HeldModel {
    /// One of that name in a folder of models.
    pub fn in_folder(folder: &ModelFolder, name: &str) -> Self {
        const LENGTH: u64 = 1 << 43;
        folder.put(name, 1, b"");
        let held = Self { path: folder.version(name, 1).join("model.onnx") };
        held.set_length(LENGTH);
        held
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whoever loads it finds out that it is none.
    pub fn let_go(&self) {
        self.set_length(0);
    }

    fn set_length(&self, length: u64) {
        OpenOptions::new().write(true).open(&self.path).unwrap().set_len(length).unwrap();
    }
}
