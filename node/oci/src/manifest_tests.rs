use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn descriptor(byte: u8, media_type: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", hex(byte)), "size": size })
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": descriptor(1, "application/vnd.oci.image.config.v1+json", 10),
        "layers": [descriptor(2, "application/vnd.oci.image.layer.v1.tar+gzip", 20)],
    })
}

fn index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "manifests": [descriptor(3, MediaType::OCI_MANIFEST, 30), descriptor(4, MediaType::OCI_INDEX, 40)],
    })
}

/// `base` with some members replaced; `null` removes one.
fn with(mut base: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => base.as_object_mut().unwrap().remove(key),
            value => base.as_object_mut().unwrap().insert(key.clone(), value.clone()),
        };
    }
    base
}

fn parse(content_type: Option<&str>, value: &Value) -> Result<Manifest, InvalidManifest> {
    Manifest::parse(content_type, &serde_json::to_vec(value).unwrap())
}

fn bytes_of(descriptors: &[Descriptor]) -> Vec<u8> {
    descriptors.iter().map(|descriptor| descriptor.digest.hash()[0]).collect()
}

#[test]
fn an_image_names_config_and_layers() {
    for media_type in [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST] {
        let manifest = parse(Some(media_type), &with(image(), json!({ "mediaType": media_type }))).unwrap();
        assert_eq!(manifest.media_type.0, media_type);
        assert_eq!((bytes_of(&manifest.blobs), manifest.children.len()), (vec![1, 2], 0));
        assert_eq!(manifest.artifact_type.unwrap().0, "application/vnd.oci.image.config.v1+json");
        assert_eq!(manifest.blobs[1].size, ByteLen(20));
    }
}

#[test]
fn an_index_names_children_and_they_may_be_indexes() {
    for media_type in [MediaType::OCI_INDEX, MediaType::DOCKER_LIST] {
        let manifest = parse(None, &with(index(), json!({ "mediaType": media_type }))).unwrap();
        assert!(manifest.media_type.is_index() && manifest.blobs.is_empty() && manifest.artifact_type.is_none());
        assert_eq!(bytes_of(&manifest.children), [3, 4]);
    }
}

#[test]
fn the_media_type_is_the_bodys_then_the_headers_then_the_members() {
    let no_type = json!({ "mediaType": null });
    for (content_type, body, expected) in [
        (None, image(), MediaType::OCI_MANIFEST),
        (Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), image(), MediaType::OCI_MANIFEST),
        (Some(""), image(), MediaType::OCI_MANIFEST),
        (Some(MediaType::DOCKER_MANIFEST), with(image(), no_type.clone()), MediaType::DOCKER_MANIFEST),
        (Some(MediaType::DOCKER_LIST), with(index(), no_type.clone()), MediaType::DOCKER_LIST),
        (None, with(image(), no_type.clone()), MediaType::OCI_MANIFEST),
        (None, with(index(), no_type), MediaType::OCI_INDEX),
    ] {
        assert_eq!(parse(content_type, &body).unwrap().media_type.0, expected, "{content_type:?} {body}");
    }
}

#[test]
fn an_artifact_has_its_own_type_and_a_subject() {
    let artifact = with(
        image(),
        json!({
            "artifactType": "application/vnd.example.sbom",
            "config": descriptor(5, "application/vnd.oci.empty.v1+json", 2),
            "layers": [],
            "subject": descriptor(6, MediaType::OCI_MANIFEST, 60),
        }),
    );
    let manifest = parse(None, &artifact).unwrap();
    assert_eq!(manifest.artifact_type.unwrap().0, "application/vnd.example.sbom");
    assert_eq!(bytes_of(manifest.subject.as_slice()), [6]);
    assert_eq!(bytes_of(&manifest.blobs), [5]);
}

#[test]
fn foreign_layers_are_nobodys_blobs_and_nondistributable_ones_are() {
    let mut foreign = descriptor(7, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 70);
    foreign["urls"] = json!(["https://example.com/layer"]);
    let mut empty_urls = descriptor(8, "application/vnd.oci.image.layer.v1.tar+gzip", 80);
    empty_urls["urls"] = json!([]);
    let held = descriptor(9, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", 90);
    let manifest = parse(None, &with(image(), json!({ "layers": [foreign, empty_urls, held] }))).unwrap();
    assert_eq!(bytes_of(&manifest.blobs), [1, 8, 9]);
}

#[test]
fn members_that_null_out_are_absent() {
    let mut value = image();
    value["manifests"] = Value::Null;
    value["subject"] = Value::Null;
    assert!(parse(None, &value).is_ok());
}

#[test]
fn what_is_no_manifest_is_refused_with_its_reason() {
    use InvalidManifest::{Ambiguous, Disagrees, MediaType as Media, Syntax};
    let bad = |member: &str, value: Value| {
        let mut layer = descriptor(2, "x/y", 20);
        layer[member] = value;
        with(image(), json!({ "layers": [layer] }))
    };
    let schema_1 = json!({ "schemaVersion": 1, "name": "a", "fsLayers": [], "history": [] });
    type Case = (&'static str, Option<&'static str>, Value, fn(&InvalidManifest) -> bool);
    let cases: Vec<Case> = vec![
        ("header and body", Some(MediaType::OCI_INDEX), image(), |e| matches!(e, Disagrees { .. })),
        ("HTML header", Some("text/html"), with(image(), json!({ "mediaType": null })), |e| matches!(e, Media(_))),
        ("unknown own type", None, with(image(), json!({ "mediaType": "a/b" })), |e| matches!(e, Media(_))),
        ("schema 1", Some(MediaType::DOCKER_SCHEMA_1), schema_1.clone(), |e| matches!(e, Media(_))),
        ("schema 1 unnamed", None, schema_1, |e| matches!(e, Media(_))),
        ("schema 3", None, with(image(), json!({ "schemaVersion": 3 })), |e| matches!(e, Syntax(_))),
        ("both", None, with(image(), json!({ "manifests": [] })), |e| *e == Ambiguous),
        ("index with config", None, with(index(), json!({ "config": descriptor(1, "", 1) })), |e| *e == Ambiguous),
        ("index by name only", Some(MediaType::OCI_INDEX), with(image(), json!({ "mediaType": null })), |e| {
            matches!(e, Syntax(_))
        }),
        ("image by name only", Some(MediaType::OCI_MANIFEST), with(index(), json!({ "mediaType": null })), |e| {
            matches!(e, Syntax(_))
        }),
        ("neither", None, json!({ "schemaVersion": 2 }), |e| matches!(e, Syntax(_))),
        ("no config", None, with(image(), json!({ "config": null })), |e| matches!(e, Syntax(_))),
        ("short digest", None, bad("digest", json!("sha256:12")), |e| matches!(e, Syntax(_))),
        ("md5", None, bad("digest", json!("md5:12")), |e| matches!(e, Syntax(_))),
        ("negative size", None, bad("size", json!(-1)), |e| matches!(e, Syntax(_))),
        ("fractional size", None, bad("size", json!(1.5)), |e| matches!(e, Syntax(_))),
        ("long type", None, bad("mediaType", json!("x".repeat(256))), |e| matches!(e, Syntax(_))),
        ("type with line", None, bad("mediaType", json!("a/b\r\nx: y")), |e| matches!(e, Syntax(_))),
        ("a list", None, json!([]), |e| matches!(e, Syntax(_))),
    ];
    for (name, content_type, body, expected) in cases {
        let error = parse(content_type, &body).unwrap_err();
        assert!(expected(&error), "{name}: {error}");
    }
}

#[test]
fn length_and_depth_are_bounded() {
    let long = vec![b' '; 4 * 1024 * 1024 + 1];
    assert_eq!(Manifest::parse(None, &long), Err(InvalidManifest::TooLong));
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(700_000);
        assert!(matches!(Manifest::parse(None, deep.as_bytes()), Err(InvalidManifest::Syntax(_))));
    }
    // Deep below a member that nobody reads.
    let deep = format!("{{\"annotations\":{}", "[".repeat(1_000_000));
    assert!(matches!(Manifest::parse(None, deep.as_bytes()), Err(InvalidManifest::Syntax(_))));
}

#[test]
fn a_member_given_twice_is_refused() {
    let text = r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
    assert!(matches!(Manifest::parse(None, text.as_bytes()), Err(InvalidManifest::Syntax(_))));
}

/// JSON that looks like a manifest but for anything.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let member = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(|n| json!(n)),
        ".{0,8}".prop_map(|text| json!(text)),
        Just(json!([])),
        (any::<u8>(), any::<i64>())
            .prop_map(|(byte, size)| json!([{ "digest": format!("sha256:{}", hex(byte)), "size": size }])),
        any::<u8>().prop_map(|byte| descriptor(byte, "a/b", 1)),
    ];
    let keys = ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "fsLayers"];
    let members = prop::collection::vec((prop::sample::select(keys.to_vec()), member), 0..4);
    (any::<bool>(), members).prop_map(|(list, members)| {
        let mut value = if list { index() } else { image() };
        for (key, member) in members {
            value[key] = member;
        }
        serde_json::to_vec(&value).unwrap()
    })
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>, content_type: Option<String>) {
        let _ = Manifest::parse(content_type.as_deref(), &bytes);
    }

    #[test]
    fn mangled_manifests_are_images_or_indexes_or_refused(bytes in mangled()) {
        if let Ok(manifest) = Manifest::parse(None, &bytes) {
            prop_assert_eq!(manifest.media_type.is_index(), manifest.blobs.is_empty());
            prop_assert!(manifest.blobs.is_empty() || manifest.children.is_empty());
        }
    }

    /// The counts of references rest on it: they are undone by a second reading.
    #[test]
    fn what_a_manifest_names_does_not_depend_on_the_header(bytes in mangled()) {
        let types = [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, MediaType::DOCKER_MANIFEST, MediaType::DOCKER_LIST];
        let read = types.into_iter().filter_map(|text| Manifest::parse(Some(text), &bytes).ok());
        let named: Vec<_> = read.map(|manifest| (manifest.blobs, manifest.children, manifest.subject)).collect();
        prop_assert!(named.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn errors_repeat_little_of_what_an_author_wrote_and_on_one_line() {
    let forged = format!("x\n2026-11-22T00:00:00Z ERROR \u{2028}{}", "a".repeat(200_000));
    for body in [
        with(image(), json!({ "mediaType": forged })),
        with(image(), json!({ "config": forged })),
        with(image(), json!({ "config": { "digest": forged, "size": 1 } })),
        with(image(), json!({ "schemaVersion": forged })),
    ] {
        for content_type in [None, Some(forged.as_str()), Some(MediaType::OCI_MANIFEST)] {
            let told = parse(content_type, &body).unwrap_err().to_string();
            assert!(told.chars().count() < 3 * SHOWN_CHARS, "{} characters", told.len());
            assert!(!told.chars().any(|c| c.is_control() || c == '\u{2028}'), "{told}");
        }
    }
}
