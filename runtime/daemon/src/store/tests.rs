//! Loss of power between any two steps, and hands that change files.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use mesh_bundle::envelope::PayloadType;
use mesh_bundle::key::SigningKey;
use mesh_bundle::spiffe::TrustDomain;

use super::*;

fn envelope(kind: PayloadType, payload: &str) -> Envelope {
    let key = SigningKey::from_seed([1; 32]);
    Envelope::sign(kind, payload.as_bytes().to_vec(), &[&key])
}

fn contents(version: u64) -> Contents {
    let order = Order {
        epoch: 0,
        sequence: version,
        emit: 1,
    };
    Contents {
        pin: Digest::of(b"root"),
        scope: Scope {
            mesh: "bookshop".to_owned(),
            environment: "default".to_owned(),
            trust_domain: TrustDomain::parse("bookshop.example").unwrap(),
        },
        identity: SpiffeId::parse("spiffe://bookshop.example/service/reviews").unwrap(),
        addresses: vec!["127.0.0.1:7443".to_owned()],
        trust_roots: vec![envelope(PayloadType::TrustRoot, "root")],
        trust_bundles: vec![envelope(PayloadType::TrustBundle, "bundle")],
        revocations: vec![envelope(PayloadType::Revocations, "revocations")],
        heads: vec![envelope(PayloadType::Head, &format!("head {version}"))],
        floor: Some(order),
        confirmed: Some(Confirmed {
            order,
            generation: Digest::of(&version.to_be_bytes()),
        }),
        generations: (0..version.min(7))
            .map(|back| StoredGeneration {
                envelope: envelope(
                    PayloadType::Generation,
                    &format!("generation {}", version - back),
                ),
                trust_root_version: 1,
                // Some slices are the same, as after a revert.
                slice: (back != 3).then(|| format!("slice {}", (version - back) % 3).into()),
                proof: format!("proof {}", version - back).into(),
            })
            .collect(),
        keys: StoredKeys {
            svid: Some((b"key".to_vec(), vec![b"leaf".to_vec(), b"ca".to_vec()])),
            pending: version.is_multiple_of(2).then(|| b"pending".to_vec()),
        },
        endpoints: Some(format!("endpoints {version}").into()),
    }
}

fn kept(version: u64) -> Contents {
    let mut contents = contents(version);
    contents.generations.truncate(5);
    contents
}

fn store() -> (tempfile::TempDir, PathBuf) {
    let folder = crate::test_util::quick_folder();
    let path = folder.path().join("store");
    (folder, path)
}

fn load(path: &Path) -> Option<Contents> {
    let loaded = Store::open(path).unwrap().load().unwrap()?;
    assert!(loaded.left_out.is_empty(), "{:?}", loaded.left_out);
    Some(loaded.contents)
}

#[test]
fn what_is_saved_is_loaded_and_what_is_old_is_removed() {
    let (_folder, path) = store();
    assert_eq!(load(&path), None);
    for version in 1..10 {
        Store::open(&path)
            .unwrap()
            .save(&contents(version))
            .unwrap();
        assert_eq!(load(&path), Some(kept(version)));
    }
    let names: Vec<_> = Store::open(&path).unwrap().folder.names().unwrap();
    // Manifest, root, bundle, revocations, head, key, two certificates, endpoints; and five
    // generations with five proofs and three different slices.
    assert_eq!(names.len(), 9 + 5 + 5 + 3, "{names:?}");
    for name in names.iter().filter(|name| *name != MANIFEST) {
        assert!(Digest::from_hex(name).is_ok(), "{name}");
    }
    for entry in std::fs::read_dir(&path).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_loss_of_power_at_any_step_leaves_the_old_or_the_new() {
    let mut seen_old = 0;
    let mut seen_new = 0;
    for step in 1.. {
        let (_folder, path) = store();
        let mut store = Store::open(&path).unwrap();
        store.save(&contents(6)).unwrap();
        store.folder.fault.0.store(step, Relaxed);
        let result = store.save(&contents(7));
        drop(store);
        let found = load(&path).unwrap();
        if result.is_ok() {
            assert_eq!(found, kept(7));
            break;
        }
        if found == kept(6) {
            seen_old += 1;
        } else {
            assert_eq!(found, kept(7), "step {step}");
            seen_new += 1;
        }
        // And the next change goes through.
        Store::open(&path).unwrap().save(&contents(8)).unwrap();
        assert_eq!(load(&path), Some(kept(8)), "step {step}");
    }
    assert!(seen_old > 10, "{seen_old}");
    assert!(seen_new > 1, "{seen_new}");
}

#[test]
fn a_first_save_that_is_cut_short_leaves_an_empty_store() {
    let (_folder, path) = store();
    let mut store = Store::open(&path).unwrap();
    store.folder.fault.0.store(5, Relaxed);
    store.save(&contents(1)).unwrap_err();
    // The same process tries again.
    store.folder.fault.0.store(0, Relaxed);
    assert!(store.load().unwrap().is_none());
    store.save(&contents(1)).unwrap();
    assert_eq!(store.load().unwrap().unwrap().contents, kept(1));
}

#[test]
fn a_file_that_was_changed_is_found_out() {
    let (_folder, path) = store();
    Store::open(&path).unwrap().save(&contents(3)).unwrap();
    let names = Store::open(&path).unwrap().folder.names().unwrap();
    let of_generation: BTreeSet<_> = kept(3)
        .generations
        .into_iter()
        .flat_map(|generation| {
            let files = [generation.envelope.encode(), generation.proof];
            files.into_iter().chain(generation.slice)
        })
        .map(|bytes| Digest::of(&bytes).to_hex())
        .collect();
    let coming_again: BTreeSet<_> = [kept(3).heads[0].encode(), kept(3).endpoints.unwrap()]
        .map(|bytes| Digest::of(&bytes).to_hex())
        .into();
    for name in names {
        let file = path.join(&name);
        let good = std::fs::read(&file).unwrap();
        // Generations, heads and endpoints are left out; anything else that is damaged refuses the
        // store.
        let is_generation = of_generation.contains(&name);
        let comes_again = coming_again.contains(&name);
        let check = |expected: &str| {
            let error = match Store::open(&path).unwrap().load() {
                Ok(loaded) => {
                    assert!(is_generation || comes_again, "{name}");
                    let mut loaded = loaded.unwrap();
                    let whole = if is_generation { 2 } else { 3 };
                    assert_eq!(loaded.contents.generations.len(), whole);
                    assert_eq!(loaded.left_out.len(), 1);
                    loaded.left_out.remove(0)
                }
                Err(error) => {
                    assert!(!is_generation && !comes_again, "{name}");
                    error
                }
            };
            assert!(error.to_string().contains(expected), "{name}: {error}");
        };
        let mut bad = good.clone();
        bad[0] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        check("store is damaged");
        std::fs::write(&file, &good[..good.len() - 1]).unwrap();
        check("store is damaged");
        std::fs::remove_file(&file).unwrap();
        if name != MANIFEST {
            check("is missing");
        }
        symlink("/etc/hostname", &file).unwrap();
        check("is a link");
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &good).unwrap();
        assert_eq!(load(&path), Some(kept(3)));
    }
}

#[test]
fn a_manifest_of_a_later_release_is_refused_as_such() {
    let (_folder, path) = store();
    Store::open(&path).unwrap().save(&contents(1)).unwrap();
    let manifest = path.join(MANIFEST);
    let text = std::fs::read_to_string(&manifest).unwrap();
    let later = text.replace("\"format\": 1", "\"format\": 2, \"new\": true");
    std::fs::write(&manifest, later).unwrap();
    let error = Store::open(&path).unwrap().load().unwrap_err();
    assert!(matches!(error, StoreError::Format(2)), "{error}");
    let unknown = text.replace("\"format\": 1", "\"format\": 1, \"new\": true");
    std::fs::write(&manifest, unknown).unwrap();
    let error = Store::open(&path).unwrap().load().unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    let (_folder, path) = store();
    drop(Store::open(&path).unwrap());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::NotPrivate(_))));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let link = path.with_extension("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(Store::open(&link), Err(StoreError::NotPrivate(_))));
}

#[test]
fn two_processes_cannot_share_a_store() {
    let (_folder, path) = store();
    let first = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse)));
    drop(first);
    assert!(Store::open(&path).is_ok());
}
