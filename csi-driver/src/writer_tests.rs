//! What readers see, what attackers try, and what a crash leaves.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use strongroom_client::{
    SecretBytes,
    volume::{self, FileName},
};
use tempfile::TempDir;

use super::*;

struct ScratchVolume {
    home: TempDir,
    root: Folder,
}

impl ScratchVolume {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("volume")).unwrap();
        let root = Folder::open(&home.path().join("volume")).unwrap();
        Self { home, root }
    }

    fn path(&self) -> std::path::PathBuf {
        self.home.path().join("volume")
    }

    fn write(&self, files: &[(&str, &str)]) -> WriteResult {
        write(&self.root, &made(files), Owner::default(), Timestamp::UNIX_EPOCH).unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// What is there, hidden entries included.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn visible(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| !name.starts_with("..")).collect()
    }

    fn hidden(&self) -> usize {
        self.names().len() - self.visible().len()
    }
}

fn made(files: &[(&str, &str)]) -> Vec<VolumeFile> {
    let file = |(name, content): &(&str, &str)| volume_file(name, 0o400, content);
    files.iter().map(file).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn files_appear_as_described() {
    let place = ScratchVolume::new();
    assert_eq!(
        place.write(&[("user", "u"), ("db/tls/key.pem", "k"), ("db/host", "h")]),
        WriteResult::Written
    );
    assert_eq!(place.visible(), ["db", "user"]);
    assert_eq!(
        (place.read("user"), place.read("db/tls/key.pem"), place.read("db/host")),
        ("u".into(), "k".into(), "h".into())
    );
    assert_eq!(mode(&place.path().join("user")), 0o400);
    assert_eq!(mode(&place.path().join("db/tls")), 0o755);
    assert_eq!(fs::read_link(place.path().join("user")).unwrap(), Path::new("..data/user"));
}

#[test]
fn a_new_generation_replaces_everything_and_is_swept_later() {
    let place = ScratchVolume::new();
    place.write(&[("a", "1"), ("old/x", "1")]);
    let before = fs::read_link(place.path().join("..data")).unwrap();
    assert_eq!(place.write(&[("a", "2"), ("new", "2")]), WriteResult::Written);
    assert_eq!(place.visible(), ["a", "new"]);
    assert_eq!(place.read("a"), "2");
    // A reader on its way to the old file still finds it.
    assert!(place.path().join(&before).join("old/x").exists());
    sweep(&place.root).unwrap();
    assert!(!place.path().join(&before).exists());
    assert_eq!((place.read("a"), place.hidden()), ("2".into(), 2));
}

#[test]
fn what_is_the_same_is_not_touched() {
    let place = ScratchVolume::new();
    place.write(&[("a", "1"), ("b/c", "2")]);
    let before = (
        fs::read_link(place.path().join("..data")).unwrap(),
        fs::metadata(place.path()).unwrap().ctime_nsec(),
    );
    assert_eq!(place.write(&[("b/c", "2"), ("a", "1")]), WriteResult::Unchanged);
    let after = (
        fs::read_link(place.path().join("..data")).unwrap(),
        fs::metadata(place.path()).unwrap().ctime_nsec(),
    );
    assert_eq!(before, after);
    for other in [
        vec![("a", "1")],
        vec![("a", "1"), ("b/c", "3")],
        vec![("a", "1"), ("b/d", "2")],
        vec![("a", "1"), ("b/c", "2"), ("d", "")],
    ] {
        assert_eq!(place.write(&other), WriteResult::Written, "{other:?}");
        place.write(&[("a", "1"), ("b/c", "2")]);
    }
}

#[test]
fn a_changed_mode_or_owner_is_a_change() {
    let place = ScratchVolume::new();
    let write = |mode, owner| {
        write(&place.root, &[volume_file("a", mode, "1")], owner, Timestamp::UNIX_EPOCH).unwrap()
    };
    assert_eq!(write(0o400, Owner::default()), WriteResult::Written);
    assert_eq!(write(0o440, Owner::default()), WriteResult::Written);
    assert_eq!(mode(&place.path().join("a")), 0o440);
    if rustix::process::geteuid().is_root() {
        let owner = Owner { uid: Some(1000), gid: Some(2000) };
        assert_eq!(write(0o440, owner), WriteResult::Written);
        assert_eq!(write(0o440, owner), WriteResult::Unchanged);
        let file = fs::metadata(place.path().join("a")).unwrap();
        assert_eq!((file.uid(), file.gid()), (1000, 2000));
        let folder = fs::metadata(place.path().join("..data/")).unwrap();
        assert_eq!((folder.uid(), folder.gid(), folder.mode() & 0o7777), (1000, 2000, 0o750));
    }
}

/// A pod that reads all the time never finds a file missing, empty, half-written or of the wrong generation.
#[test]
fn a_reader_in_a_loop_sees_whole_files_only() {
    let place = ScratchVolume::new();
    let content = |version: u32| format!("{version:08}").repeat(4096);
    let write = |version| {
        let text = content(version);
        place.write(&[("one", text.as_str()), ("deep/er/two", text.as_str())])
    };
    write(0);
    let (done, progress) = (AtomicBool::new(false), AtomicU32::new(0));
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u32;
            while !done.load(Ordering::Relaxed) {
                for name in ["one", "deep/er/two"] {
                    let text = fs::read_to_string(place.path().join(name)).unwrap();
                    let version: u32 = text[..8].parse().unwrap();
                    assert!(text == content(version), "{name} is of several versions");
                    reads += 1;
                    progress.store(reads, Ordering::Relaxed);
                }
            }
            reads
        });
        for version in 1..=300 {
            assert_eq!(write(version), WriteResult::Written);
            // As in life, a reader gets somewhere between two generations.
            let before = progress.load(Ordering::Relaxed);
            while progress.load(Ordering::Relaxed) == before && !reader.is_finished() {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads > 100, "only {reads} reads: nothing was tried");
}

#[test]
fn an_error_leaves_the_old_generation_served_and_nothing_beside_it() {
    let place = ScratchVolume::new();
    place.write(&[("a", "1")]);
    let before = place.names();
    // A file and a folder of one name cannot be parsed into a volume; here they stand for a full disk.
    let wrong = made(&[("b", "2"), ("b/c", "2")]);
    let error = write(&place.root, &wrong, Owner::default(), Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(matches!(&error, WriteError::File { name, .. } if name == "b/c"), "{error}");
    assert_eq!((place.names(), place.read("a")), (before, "1".into()));
}

#[test]
fn whatever_a_crash_left_the_next_write_is_whole() {
    let leave: [fn(&Path); 6] = [
        |volume| fs::create_dir(volume.join("..2026_01_01_00_00_00.dead")).unwrap(),
        |volume| {
            fs::create_dir(volume.join("..half")).unwrap();
            fs::write(volume.join("..half/a"), "half").unwrap();
            symlink("..half", volume.join("..data_tmp")).unwrap();
        },
        |volume| symlink("..data/b", volume.join("..link_tmp")).unwrap(),
        // After the swap, before the links.
        |volume| fs::remove_file(volume.join("a")).unwrap(),
        |volume| symlink("..data/stale", volume.join("stale")).unwrap(),
        // The generation itself is gone.
        |volume| fs::remove_dir_all(volume.join(fs::read_link(volume.join("..data")).unwrap())).unwrap(),
    ];
    for (n, leave) in leave.iter().enumerate() {
        for next in ["1", "2"] {
            let place = ScratchVolume::new();
            place.write(&[("a", "1")]);
            leave(&place.path());
            place.write(&[("a", next)]);
            sweep(&place.root).unwrap();
            assert_eq!(
                (place.read("a").as_str(), place.visible(), place.hidden()),
                (next, vec!["a".to_owned()], 2),
                "{n}"
            );
        }
    }
}

/// Somebody who could write into the volume cannot make the driver write or delete elsewhere.
#[test]
fn planted_links_lead_nowhere() {
    let plant: [fn(&Path, &Path); 7] = [
        |volume, outside| {
            fs::remove_file(volume.join("..data")).unwrap();
            symlink(outside, volume.join("..data")).unwrap();
        },
        |volume, _| {
            fs::remove_file(volume.join("..data")).unwrap();
            symlink("../outside", volume.join("..data")).unwrap();
        },
        |volume, outside| symlink(outside, volume.join("..data_tmp")).unwrap(),
        |volume, outside| symlink(outside, volume.join("..link_tmp")).unwrap(),
        |volume, outside| {
            fs::remove_file(volume.join("a")).unwrap();
            symlink(outside.join("precious"), volume.join("a")).unwrap();
        },
        |volume, outside| symlink(outside, volume.join("evil")).unwrap(),
        |volume, outside| symlink(outside, volume.join("..evil")).unwrap(),
    ];
    for (n, plant) in plant.iter().enumerate() {
        let place = ScratchVolume::new();
        let outside = place.home.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "precious").unwrap();
        place.write(&[("a", "1")]);
        plant(&place.path(), &outside);
        place.write(&[("a", "2"), ("d/b", "2")]);
        sweep(&place.root).unwrap();
        assert_eq!(
            (place.read("a"), place.visible()),
            ("2".into(), vec!["a".to_owned(), "d".to_owned()]),
            "{n}"
        );
        empty(&place.root).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{n}");
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "precious", "{n}");
    }
}

#[test]
fn emptied_is_empty() {
    let place = ScratchVolume::new();
    place.write(&[("a", "1"), ("b/c/d", "2")]);
    empty(&place.root).unwrap();
    assert!(place.names().is_empty());
}

fn volume_file(name: &str, mode: u32, content: &str) -> VolumeFile {
    VolumeFile {
        name: FileName::parse(name).unwrap(),
        mode: volume::Mode::parse(&format!("{mode:04o}")).unwrap(),
        content: SecretBytes::from(content.as_bytes()),
    }
}
