//! Model files: agreement with the reference implementation, and every lie a header can tell.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;

use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use sordino_codec::{Dtype, FileLimits, Layout, LayoutError, ModelFileError, TensorSpec, Tensors, TensorsError};

/// A file with this header and `data` zero bytes.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn read(bytes: &[u8]) -> Result<Tensors, ModelFileError> {
    Tensors::from_safetensors(bytes, &FileLimits::default())
}

fn reference_dtype(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::BF16 => safetensors::Dtype::BF16,
    }
}

/// What the reference implementation writes for the same tensors.
fn reference_file(tensors: &Tensors, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let parts: Vec<(&TensorSpec, Vec<u8>)> = tensors
        .layout()
        .specs()
        .iter()
        .map(|spec| {
            let values = tensors.get(spec.name()).unwrap();
            let bytes = match spec.dtype() {
                Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                Dtype::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
                Dtype::BF16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
            };
            (spec, bytes)
        })
        .collect();
    let views = parts.iter().map(|(spec, bytes)| {
        (spec.name(), TensorView::new(reference_dtype(spec.dtype()), spec.shape().to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views, metadata).unwrap()
}

/// Tensors with any names, small shapes, all types and finite values.
fn tensors() -> impl Strategy<Value = Tensors> {
    let dtype = prop_oneof![Just(Dtype::F32), Just(Dtype::F16), Just(Dtype::BF16)];
    let shape = prop::collection::vec(0usize..4, 0..4);
    let name = r#"[a-z."\\\PC]{1,12}"#.prop_filter("the key for metadata", |name| name != "__metadata__");
    prop::collection::btree_map(name, (shape, dtype), 1..8)
        .prop_filter_map("no values at all", |specs| {
            let specs = specs.into_iter().map(|(name, (shape, dtype))| TensorSpec::new(name, shape, dtype).ok());
            Layout::new(specs.collect::<Option<_>>()?, 10_000).ok()
        })
        .prop_flat_map(|layout| {
            let values = prop::collection::vec(-60_000f32..60_000f32, layout.len());
            values.prop_map(move |values| Tensors::new(layout.clone(), values).unwrap())
        })
}

proptest! {
    #[test]
    fn files_are_those_of_the_reference_implementation(tensors in tensors()) {
        let bytes = tensors.to_safetensors();
        prop_assert_eq!(&bytes, &reference_file(&tensors, None));
        prop_assert_eq!(&Tensors::from_canonical(&bytes, &FileLimits::default()).unwrap(), &tensors);
        let parsed = SafeTensors::deserialize(&bytes).unwrap();
        for spec in tensors.layout().specs() {
            let view = parsed.tensor(spec.name()).unwrap();
            prop_assert_eq!(view.shape(), spec.shape());
            prop_assert_eq!(view.dtype(), reference_dtype(spec.dtype()));
        }
    }

    #[test]
    fn reading_undoes_writing(tensors in tensors()) {
        prop_assert_eq!(read(&tensors.to_safetensors()).unwrap(), tensors);
    }

    #[test]
    fn metadata_is_accepted_and_dropped(tensors in tensors()) {
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        prop_assert_eq!(read(&reference_file(&tensors, Some(metadata))).unwrap(), tensors);
    }

    #[test]
    fn truncation_anywhere_is_refused(tensors in tensors(), cut in any::<prop::sample::Index>()) {
        let bytes = tensors.to_safetensors();
        prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn damaged_files_are_refused_or_whole(
        tensors in tensors(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = tensors.to_safetensors();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // What is still accepted has all its values: it can be written and read again.
        if let Ok(tensors) = read(&bytes) {
            prop_assert_eq!(tensors.values().len(), tensors.layout().len());
            prop_assert_eq!(read(&tensors.to_safetensors()).unwrap(), tensors);
        }
    }

    #[test]
    fn hostile_headers_never_panic(
        entries in prop::collection::vec(
            ("[ab]", prop_oneof![Just("F32"), Just("F16"), Just("I8")], prop::collection::vec(any::<usize>(), 0..4),
                any::<usize>(), any::<usize>()),
            0..5,
        ),
        data in 0usize..64,
    ) {
        let entries: Vec<String> = entries
            .iter()
            .map(|(name, dtype, shape, begin, end)| {
                format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#)
            })
            .collect();
        let header = format!("{{{}}}", entries.join(","));
        prop_assert!(read(&file(&header, data)).is_err());
    }
}

/// Each file lies about one thing; the error names it. The sizes claimed could not be allocated.
#[test]
fn every_lie_has_its_name() {
    type Check = fn(&ModelFileError) -> bool;
    use ModelFileError as E;
    let ok = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(read(&file(ok, 8)).is_ok());

    let huge_header = (1u64 << 60).to_le_bytes().to_vec();
    let cases: &[(&str, Vec<u8>, Check)] = &[
        ("empty", vec![], |e| matches!(e, E::TooShort { got: 0 })),
        ("seven bytes", vec![0; 7], |e| matches!(e, E::TooShort { got: 7 })),
        ("header of 2^60 bytes", huge_header, |e| matches!(e, E::HeaderTooLarge { got: 0x1000_0000_0000_0000, .. })),
        ("header longer than the file", [&200u64.to_le_bytes()[..], b"{}"].concat(), |e| {
            matches!(e, E::HeaderTruncated { claimed: 200, there: 2 })
        }),
        ("no header", file("", 0), |e| matches!(e, E::HeaderStart)),
        ("header begins with a space", file(" {}", 0), |e| matches!(e, E::HeaderStart)),
        ("not JSON", file("{\"a\":", 0), |e| matches!(e, E::Json(_))),
        ("not UTF-8", [&4u64.to_le_bytes()[..], b"{\"\xff\""].concat(), |e| matches!(e, E::Json(_))),
        ("two objects", file("{}{}", 0), |e| matches!(e, E::Json(_))),
        ("deep nesting", file(&format!("{{\"a\":{}", "[".repeat(5000)), 0), |e| matches!(e, E::Json(_))),
        ("unknown field", file(&ok.replace("shape", "shapes"), 8), |e| matches!(e, E::Json(_))),
        ("negative offset", file(&ok.replace("[0,8]", "[-8,0]"), 8), |e| matches!(e, E::Json(_))),
        ("three offsets", file(&ok.replace("[0,8]", "[0,8,8]"), 8), |e| matches!(e, E::Json(_))),
        ("metadata that is no string", file(r#"{"__metadata__":{"a":1}}"#, 0), |e| matches!(e, E::Json(_))),
        ("two metadata", file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), |e| {
            matches!(e, E::Layout(LayoutError::Duplicate { .. }))
        }),
        ("no tensors", file("{}", 0), |e| matches!(e, E::Layout(LayoutError::Empty))),
        (
            "unknown dtype",
            file(&ok.replace("F32", "F8_E5M2"), 8),
            |e| matches!(e, E::Dtype { name, dtype } if name == "a" && dtype == "F8_E5M2"),
        ),
        ("integers", file(&ok.replace("F32", "I32"), 8), |e| matches!(e, E::Dtype { .. })),
        (
            "shape larger than its bytes",
            file(&ok.replace("[2]", "[1099511627776]"), 8),
            |e| matches!(e, E::Size { name, needed: 0x400_0000_0000, .. } if name == "a"),
        ),
        (
            "shape that overflows",
            file(&ok.replace("[2]", "[4294967296,4294967296]"), 8),
            |e| matches!(e, E::Layout(LayoutError::Overflow { name }) if name == "a"),
        ),
        ("too many dimensions", file(&ok.replace("[2]", &format!("{:?}", [1; 17])), 8), |e| {
            matches!(e, E::Layout(LayoutError::Rank { rank: 17, .. }))
        }),
        ("offsets backwards", file(&ok.replace("[0,8]", "[8,0]"), 8), |e| matches!(e, E::Size { .. })),
        ("past the end", file(&ok.replace("[2]", "[274877906944]").replace("[0,8]", "[0,1099511627776]"), 8), |e| {
            matches!(e, E::PastTheEnd { data_len: 8, .. })
        }),
        ("data missing", file(ok, 7), |e| matches!(e, E::PastTheEnd { end: 8, data_len: 7, .. })),
        ("data left over", file(ok, 9), |e| matches!(e, E::Leftover { bytes: 1 })),
        ("hole before the first", file(&ok.replace("[0,8]", "[1,9]"), 9), |e| {
            matches!(e, E::Hole { begin: 1, covered: 0, .. })
        }),
        ("no name", file(&ok.replace("\"a\"", "\"\""), 8), |e| matches!(e, E::Layout(LayoutError::Name { .. }))),
        (
            "control characters",
            file(&ok.replace("\"a\"", "\"a\\u001b[2J\""), 8),
            |e| matches!(e, E::Layout(LayoutError::Name { name }) if !name.contains('\u{1b}')),
        ),
    ];
    for (what, bytes, check) in cases {
        let error = read(bytes).expect_err(what);
        assert!(check(&error), "{what}: {error:?}");
    }
}

#[test]
fn tensors_that_share_or_skip_bytes_are_refused() {
    let two = |b: &str, offsets: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"{b}":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#
        )
    };
    assert!(read(&file(&two("b", "[8,16]"), 16)).is_ok());
    let overlap = read(&file(&two("b", "[4,12]"), 12)).unwrap_err();
    assert!(matches!(overlap, ModelFileError::Overlap { ref name, begin: 4, covered: 8 } if name == "b"), "{overlap}");
    let same = read(&file(&two("b", "[0,8]"), 8)).unwrap_err();
    assert!(matches!(same, ModelFileError::Overlap { .. }), "{same}");
    let hole = read(&file(&two("b", "[12,20]"), 20)).unwrap_err();
    assert!(matches!(hole, ModelFileError::Hole { begin: 12, covered: 8, .. }), "{hole}");
    // The reference implementation keeps the later of the two; here it is refused.
    let twice = read(&file(&two("a", "[8,16]"), 16)).unwrap_err();
    assert!(matches!(twice, ModelFileError::Layout(LayoutError::Duplicate { ref name }) if name == "a"), "{twice}");
}

#[test]
fn limits_hold() {
    let limits = FileLimits { max_file_bytes: 200, max_header_bytes: 120, max_tensors: 1, max_values: 2 };
    let read = |bytes: &[u8]| Tensors::from_safetensors(bytes, &limits);
    let one = |len: usize| {
        let end = 4 * len;
        file(&format!(r#"{{"a":{{"dtype":"F32","shape":[{len}],"data_offsets":[0,{end}]}}}}"#), end)
    };
    assert!(read(&one(2)).is_ok());
    let error = read(&one(3)).unwrap_err();
    assert!(matches!(error, ModelFileError::Layout(LayoutError::TooManyValues { max_values: 2, .. })), "{error}");
    assert!(matches!(read(&one(100)), Err(ModelFileError::FileTooLarge { max: 200, .. })));
    let spaces = format!("{{}}{}", " ".repeat(119));
    assert!(matches!(read(&file(&spaces, 0)), Err(ModelFileError::HeaderTooLarge { got: 121, max: 120 })));
    let entry = |name| format!(r#""{name}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
    let error = read(&file(&format!("{{{},{}}}", entry("a"), entry("b")), 0)).unwrap_err();
    assert!(matches!(error, ModelFileError::TooManyTensors { got: 2, max: 1 }), "{error}");
}

#[test]
fn values_that_are_not_finite_are_named() {
    for (dtype, bytes) in [("F32", vec![0, 0, 0xc0, 0x7f]), ("F16", vec![0, 0x7c]), ("BF16", vec![0x80, 0xff])] {
        let size = bytes.len();
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[1,3],"data_offsets":[0,{}]}}}}"#, 3 * size);
        let mut bad = file(&header, 3 * size);
        let at = bad.len() - size;
        bad[at..].copy_from_slice(&bytes);
        match read(&bad) {
            Err(ModelFileError::Values(TensorsError::NotFinite { name, index, .. })) => {
                assert_eq!((name.as_str(), index), ("w", 2), "{dtype}");
            }
            other => unreachable!("{dtype}: {other:?}"),
        }
    }
}

/// Known bytes: shapes, order of types, alignment and padding as in the format's description.
#[test]
fn the_bytes_of_a_small_model() {
    let specs = vec![
        TensorSpec::new("bias", vec![2], Dtype::F16).unwrap(),
        TensorSpec::new("scale", vec![], Dtype::F32).unwrap(),
    ];
    let tensors = Tensors::new(Layout::new(specs, 3).unwrap(), vec![1.0, -2.0, 0.5]).unwrap();
    let header = concat!(
        r#"{"scale":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"#,
        r#""bias":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#
    );
    let mut expected = file(header, 0);
    let padded = header.len().next_multiple_of(8);
    expected[..8].copy_from_slice(&(padded as u64).to_le_bytes());
    expected.resize(8 + padded, b' ');
    expected.extend_from_slice(&[0, 0, 0, 0x3f, 0, 0x3c, 0, 0xc0]);
    assert_eq!(tensors.to_safetensors(), expected);
}

#[test]
fn a_model_has_one_file() {
    let layout = Layout::new(
        vec![
            TensorSpec::new("a \"b\"", vec![2], Dtype::F16).unwrap(),
            TensorSpec::new("c", vec![1, 3], Dtype::F32).unwrap(),
            TensorSpec::new("d", vec![0], Dtype::BF16).unwrap(),
        ],
        10,
    );
    let tensors = Tensors::new(layout.unwrap(), vec![0.5, -0.0, 1.0, f32::MIN_POSITIVE / 2.0, -3.0]).unwrap();
    let canonical = tensors.to_safetensors();
    let limits = FileLimits::default();
    assert_eq!(Tensors::from_canonical(&canonical, &limits).unwrap(), tensors);
    let split = 8 + usize::try_from(u64::from_le_bytes(*canonical.first_chunk().unwrap())).unwrap();
    let (header, values) = (std::str::from_utf8(&canonical[8..split]).unwrap(), &canonical[split..]);
    let others = [
        ("metadata", header.replacen('{', r#"{"__metadata__":{"format":"pt"},"#, 1)),
        ("no entries of metadata", header.replacen('{', r#"{"__metadata__":{},"#, 1)),
        ("white space", header.replacen(':', ": ", 1)),
        ("more padding", format!("{header}        ")),
        ("less padding", header.trim_end().to_owned()),
        ("another order of fields", header.replace(r#""dtype":"F32","shape":[1,3]"#, r#""shape":[1,3],"dtype":"F32""#)),
        ("escapes", header.replace(r#""c""#, r#""\u0063""#)),
    ];
    for (name, other) in others {
        assert_ne!(other, header, "{name}");
        let mut file = (other.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(other.as_bytes());
        file.extend_from_slice(values);
        assert_eq!(read(&file).unwrap(), tensors, "{name}: it is the same model");
        let error = Tensors::from_canonical(&file, &limits).unwrap_err();
        assert!(matches!(error, ModelFileError::NotCanonical), "{name}: {error}");
        assert!(error.to_string().contains("write it again without metadata"), "{error}");
    }
    // Tensors in another order, each with its own values.
    let swapped = reordered(&tensors);
    assert_eq!(read(&swapped).unwrap(), tensors);
    assert!(matches!(Tensors::from_canonical(&swapped, &limits), Err(ModelFileError::NotCanonical)));
    // What is no model file at all is told as before.
    assert!(matches!(Tensors::from_canonical(&canonical[..4], &limits), Err(ModelFileError::TooShort { got: 4 })));
}

/// The same tensors in the order of their names.
fn reordered(tensors: &Tensors) -> Vec<u8> {
    let (mut header, mut values) = (Vec::new(), Vec::new());
    for spec in tensors.layout().specs() {
        let begin = values.len();
        let of = tensors.get(spec.name()).unwrap();
        match spec.dtype() {
            Dtype::F32 => values.extend(of.iter().flat_map(|value| value.to_le_bytes())),
            Dtype::F16 => values.extend(of.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes())),
            Dtype::BF16 => values.extend(of.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes())),
        }
        let shape: Vec<_> = spec.shape().iter().map(ToString::to_string).collect();
        header.push(format!(
            r#"{:?}:{{"dtype":"{}","shape":[{}],"data_offsets":[{begin},{}]}}"#,
            spec.name(),
            spec.dtype(),
            shape.join(","),
            values.len()
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &values].concat()
}
