//! Maps a byte of a string value to the byte of the file that it came from, for each of YAML's five scalar styles.

/// Returns the offset in `raw`, the source text of a scalar, of the byte at `offset` of its value.
pub(super) fn raw_offset(raw: &str, offset: usize) -> Option<usize> {
    match raw.as_bytes().first()? {
        b'\'' => flow_offset(raw, 1, FlowStyle::Single, offset),
        b'"' => flow_offset(raw, 1, FlowStyle::Double, offset),
        b'|' => block_offset(raw, false, offset),
        b'>' => block_offset(raw, true, offset),
        _ => flow_offset(raw, 0, FlowStyle::Plain, offset),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum FlowStyle {
    Plain,
    Single,
    Double,
}

/// Plain and quoted scalars: line breaks fold into spaces, quotes have escapes (YAML 1.2.2 §7.3).
fn flow_offset(raw: &str, mut at: usize, style: FlowStyle, offset: usize) -> Option<usize> {
    let mut value = 0;
    while value <= offset {
        let rest = raw.get(at..)?;
        let Some(c) = rest.chars().next() else {
            return (value == offset).then_some(at);
        };
        let (consumed, produced) = match (style, c) {
            (_, ' ' | '\t' | '\n' | '\r') => fold_whitespace(rest),
            (FlowStyle::Single, '\'') if rest.starts_with("''") => (2, 1),
            (FlowStyle::Single, '\'') | (FlowStyle::Double, '"') => return (value == offset).then_some(at),
            (FlowStyle::Double, '\\') => parse_escape(rest)?,
            _ => (c.len_utf8(), c.len_utf8()),
        };
        if offset < value + produced {
            // inside a run of characters that are copied byte for byte
            return Some(if consumed == produced { at + (offset - value) } else { at });
        }
        at += consumed;
        value += produced;
    }
    None
}

/// Returns the length of the leading white space of `rest`, and the length of the value that it produces.
fn fold_whitespace(rest: &str) -> (usize, usize) {
    let length = rest.find(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')).unwrap_or(rest.len());
    let run = rest.get(..length).unwrap_or_default();
    match run.bytes().filter(|b| *b == b'\n').count() {
        0 => (length, length),
        1 => (length, 1),
        breaks => (length, breaks - 1),
    }
}

/// Returns the length of an escape of a double-quoted scalar (YAML 1.2.2 §5.7), and the length of its value.
fn parse_escape(rest: &str) -> Option<(usize, usize)> {
    let hex = |digits: usize| {
        let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
        Some((2 + digits, char::from_u32(code)?.len_utf8()))
    };
    match rest.chars().nth(1)? {
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        'N' | '_' => Some((2, 2)),
        'L' | 'P' => Some((2, 3)),
        '\n' | '\r' => {
            let next = rest.get(1..)?;
            Some((1 + next.len() - next.trim_start_matches([' ', '\t', '\n', '\r']).len(), 0))
        }
        c => Some((1 + c.len_utf8(), 1)),
    }
}

/// Block scalars: literal keeps its lines, folded joins them (YAML 1.2.2 §8.1).
fn block_offset(raw: &str, folded: bool, offset: usize) -> Option<usize> {
    let header = raw.find('\n')? + 1;
    // an explicit indentation indicator depends on the context of the scalar
    if raw.get(..header)?.split('#').next()?.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let body = raw.get(header..)?;
    let is_blank = |line: &str| line.trim_matches([' ', '\n', '\r']).is_empty();
    let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let indent = body.split_inclusive('\n').find(|line| !is_blank(line)).map(indentation)?;
    let (mut at, mut value) = (header, 0);
    // line breaks since the last line with text, and whether folding removes one of them
    let (mut breaks, mut can_fold, mut first) = (0usize, false, true);
    for line in body.split_inclusive('\n') {
        if is_blank(line) && indentation(line) <= indent {
            breaks += 1;
            at += line.len();
            continue;
        }
        let text = line.get(indent..)?.trim_end_matches(['\n', '\r']);
        let is_more_indented = text.starts_with([' ', '\t']);
        let produced = match (first, folded && can_fold && !is_more_indented, breaks) {
            (true, _, _) => breaks,
            (false, true, 1) => 1,
            (false, true, n) => n.saturating_sub(1),
            (false, false, n) => n,
        };
        if offset < value + produced {
            return Some(at);
        }
        value += produced;
        if offset <= value + text.len() {
            return Some(at + indent + (offset - value));
        }
        value += text.len();
        at += line.len();
        (breaks, can_fold, first) = (1, !is_more_indented, false);
    }
    None
}

/// Returns the offset of the `|` or `>` of a block scalar whose content starts at `content`.
pub(super) fn block_start(text: &str, content: usize) -> usize {
    let before = text.get(..content).unwrap_or_default().trim_end_matches([' ', '\t', '\r', '\n']);
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let header = before.get(line..).unwrap_or_default();
    let is_header = |rest: &str| {
        let rest = rest
            .get(1..)
            .unwrap_or_default()
            .trim_start_matches(['+', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
        rest.trim_end().is_empty() || rest.trim_start().starts_with('#')
    };
    let found =
        header.char_indices().find(|(at, c)| matches!(c, '|' | '>') && header.get(*at..).is_some_and(is_header));
    found.map_or(content, |(at, _)| line + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::config::source::Source;
    use crate::config::yaml;

    /// The value of `v:` in a file, and for each of its bytes the byte of the file that it came from.
    fn trace(text: &str) -> (String, Vec<Option<u8>>) {
        let source = Source::new("t.yaml", text.to_owned());
        let (root, errors) = yaml::parse(&source).unwrap();
        assert_eq!(errors, []);
        let yaml::NodeKind::Map(entries) = &root.kind else { panic!("a map") };
        let value = &entries[0].value;
        let yaml::NodeKind::Scalar { text: decoded, .. } = &value.kind else { panic!("a scalar") };
        let span = source.span(value.start, value.end, "v");
        let origins =
            (0..decoded.len()).map(|at| source.text().as_bytes().get(source.span_inside(&span, at).start).copied());
        (decoded.clone(), origins.collect())
    }

    #[test]
    fn each_letter_of_a_value_maps_to_itself() {
        for text in [
            "v: jwt.sub == 1\n",
            "v: jwt.sub ==\n   1\n\n\n   && 2\n",
            "v: 'it''s a ''quoted'' text'\n",
            "v: 'over\n  two  \n\n  lines'\n",
            "v: \"a\\\"b\\\\c\\u00e9d\\n e\"\n",
            "v: \"a\\\n   b\"\n",
            "v: |\n  first\n  second\n\n    third\n",
            "v: |-\n    deep\n    down\n",
            "v: >\n  first\n  second\n\n  third\n    more\n    still\n  last\n",
            "v: >-\n\n  after a gap\n  next\n",
            "v: é plain ünd\n",
            "\u{feff}v: plain\n",
        ] {
            let (value, origins) = trace(text);
            for (at, byte) in value.bytes().enumerate() {
                if byte.is_ascii_alphanumeric() {
                    assert_eq!(origins[at], Some(byte), "byte {at} of {value:?} from {text:?}");
                }
            }
        }
    }

    #[test]
    fn expanded_value_maps_to_its_start() {
        let source = Source::new("t.yaml", "v: a ${B} c\n".to_owned());
        let span = source.span(3, 11, "v");
        assert_eq!(source.span_inside(&span, 6), span);
    }

    proptest! {
        #[test]
        fn letters_map_to_themselves_in_any_text(words in "[a-z'\" é]{1,30}", style in 0..4) {
            let words = format!("x{}x", words);
            let text = match style {
                0 => format!("v: '{}'\n", words.replace('\'', "''")),
                1 => format!("v: \"{}\"\n", words.replace('"', "\\\"")),
                2 => format!("v: |\n  {words}\n  {words}\n"),
                _ => format!("v: >\n  {words}\n  {words}\n"),
            };
            let (value, origins) = trace(&text);
            for (at, byte) in value.bytes().enumerate() {
                if byte.is_ascii_alphanumeric() {
                    prop_assert_eq!(origins[at], Some(byte), "byte {} of {:?}", at, text);
                }
            }
        }

        #[test]
        fn nothing_panics(raw in "\\PC{0,40}|[|>'\"\\\\ \n\tux0-9a]{0,40}", offset in 0usize..60) {
            if let Some(at) = crate::config::scalar_offsets::raw_offset(&raw, offset) {
                prop_assert!(at <= raw.len());
            }
        }
    }
}
