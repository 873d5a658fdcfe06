//! A folder for what a lab has to hand over as files. It is made when the first is written, and goes
//! with the lab.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Default for Folder {
    fn default() -> Self {
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(format!("xmpp-testlab-{process}-{count}")))
    }
}

impl Folder {
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.0)?;
        let file = self.0.join(name);
        fs::write(&file, text)?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is not there unless something was written.
        let _ = fs::remove_dir_all(&self.0);
    }
}
