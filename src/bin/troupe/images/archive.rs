//! Writing an OCI image archive (image-spec 1.0 layout in a tar) with one layer.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// What an image consists of. The same spec always gives the same bytes.
#[derive(Debug, Default)]
pub struct ImageSpec {
    /// Full references, such as `docker.io/library/busybox:1.35`.
    pub names: Vec<String>,
    pub files: Vec<ImageFile>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `uid:gid`, or empty for root.
    pub user: String,
}

/// One file of the layer.
#[derive(Debug)]
pub struct ImageFile {
    path: String,
    mode: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    Link(String),
    Directory,
}

impl ImageFile {
    pub fn executable(path: &str, content: Vec<u8>) -> Self {
        ImageFile { path: path.into(), mode: 0o755, content: Content::Bytes(content) }
    }

    pub fn text(path: &str, content: &str) -> Self {
        ImageFile { path: path.into(), mode: 0o644, content: Content::Bytes(content.into()) }
    }

    pub fn link(path: &str, target: &str) -> Self {
        ImageFile { path: path.into(), mode: 0o777, content: Content::Link(target.into()) }
    }

    pub fn directory(path: &str, mode: u32) -> Self {
        ImageFile { path: format!("{path}/"), mode, content: Content::Directory }
    }
}

impl ImageSpec {
    /// A file name for the archive: the last path part of the first name, without its tag.
    pub fn file_stem(&self) -> &str {
        let name = self.names.first().map_or("image", String::as_str);
        let last = name.rsplit('/').next().unwrap_or(name);
        last.split(':').next().unwrap_or(last)
    }

    /// Writes the archive that `ctr images import` takes.
    pub fn write_archive(&self, path: &Path) -> io::Result<()> {
        let layer = self.layer()?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&layer)?;
        let compressed = gzip.finish()?;
        let config = self.config(&digest(&layer)).to_string().into_bytes();
        let manifest = manifest(&config, &compressed).to_string().into_bytes();
        let index = self.index(&manifest).to_string().into_bytes();
        let mut archive = Builder::new(BufWriter::new(File::create(path)?));
        let blobs = BTreeMap::from([
            ("oci-layout".to_owned(), json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes()),
            ("index.json".to_owned(), index),
            (blob_path(&config), config),
            (blob_path(&compressed), compressed),
            (blob_path(&manifest), manifest),
        ]);
        for (name, content) in blobs {
            append(&mut archive, &name, 0o644, &content)?;
        }
        archive.into_inner()?.flush()
    }

    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for file in &self.files {
            match &file.content {
                Content::Bytes(content) => append(&mut layer, &file.path, file.mode, content)?,
                Content::Link(target) => {
                    let mut header = header(file.mode, 0, EntryType::Symlink);
                    layer.append_link(&mut header, &file.path, target)?;
                }
                Content::Directory => layer.append_data(&mut header(file.mode, 0, EntryType::Directory), &file.path, io::empty())?,
            }
        }
        layer.into_inner()
    }

    fn config(&self, diff_id: &str) -> Value {
        json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {
                "User": self.user, "Entrypoint": self.entrypoint, "Cmd": self.command,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "troupe images build"}],
        })
    }

    fn index(&self, manifest: &[u8]) -> Value {
        let entries = self.names.iter().map(|name| {
            let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
            entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(':').next()});
            entry
        });
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries.collect::<Vec<_>>()})
    }
}

fn manifest(config: &[u8], layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
    })
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

fn blob_path(content: &[u8]) -> String {
    format!("blobs/sha256/{}", hex::encode(Sha256::digest(content)))
}

fn header(mode: u32, size: u64, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append<W: Write>(archive: &mut Builder<W>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(mode, content.len() as u64, EntryType::Regular), path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_reproducible_and_names_its_blobs_by_digest() {
        let spec = ImageSpec {
            names: vec!["example.com/a:1".into()],
            files: vec![ImageFile::text("etc/x", "y"), ImageFile::link("bin/l", "x"), ImageFile::directory("tmp", 0o1777)],
            ..ImageSpec::default()
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (first, second) = (dir.path().join("1.tar"), dir.path().join("2.tar"));
        spec.write_archive(&first).expect("writes");
        spec.write_archive(&second).expect("writes");
        assert_eq!(std::fs::read(&first).expect("reads"), std::fs::read(&second).expect("reads"));
        let mut archive = tar::Archive::new(File::open(&first).expect("opens"));
        for entry in archive.entries().expect("lists") {
            let mut entry = entry.expect("reads");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            io::Read::read_to_end(&mut entry, &mut content).expect("reads");
            if let Some(name) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(name, hex::encode(Sha256::digest(&content)));
            }
        }
    }
}
