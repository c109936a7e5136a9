//! Plain text out of what feeds call text: markup removed, white space made single.
//!
//! A small state machine, not a browser: it removes tags, the insides of `script` and `style`, and decodes the few
//! entities that feeds use. It never runs or fetches anything. Called by the two parsers beside it.

use chimera_core::text::truncated;

/// Control characters out, runs of white space become one space, cut to `max` bytes.
pub(super) fn normalised(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max + 4));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if out.len() > max {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    truncated(out, max)
}

/// A title and a body as one text; the title is left out when the body begins with it.
pub(super) fn joined(title: &str, body: &str) -> String {
    let (title, body) = (title.trim(), body.trim());
    if title.is_empty() || body.starts_with(title.trim_end_matches(['…', '.'])) {
        return body.to_owned();
    }
    if body.is_empty() {
        return title.to_owned();
    }
    let ends = title.ends_with(['.', '!', '?', ':', '…']);
    format!("{title}{} {body}", if ends { "" } else { "." })
}

/// The text of a piece of HTML.
pub(super) fn without_markup(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = if rest.starts_with('<') { skip_tag(rest, &mut out) } else { decode(rest, &mut out) };
    }
    out.push_str(rest);
    out
}

/// Steps over a tag, a comment, or an element whose inside is not text; a `<` that begins none of them is text.
fn skip_tag<'t>(rest: &'t str, out: &mut String) -> &'t str {
    if let Some(comment) = rest.strip_prefix("<!--") {
        return comment.find("-->").map_or("", |end| &comment[end + 3..]);
    }
    let name: String = rest[1..]
        .trim_start_matches('/')
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .take(16)
        .collect::<String>()
        .to_ascii_lowercase();
    if name.is_empty() && !rest.starts_with("<!") && !rest.starts_with("<?") {
        out.push('<');
        return &rest[1..];
    }
    let after = rest.find('>').map_or("", |end| &rest[end + 1..]);
    // Words on both sides of a tag are different words, except within a word that is partly emphasised.
    if !matches!(name.as_str(), "b" | "i" | "em" | "strong" | "span" | "u" | "a" | "wbr") {
        out.push(' ');
    }
    if matches!(name.as_str(), "script" | "style") && !rest.starts_with("</") {
        let close = format!("</{name}");
        return find_ignoring_case(after, &close).map_or("", |at| {
            let closing = &after[at..];
            closing.find('>').map_or("", |end| &closing[end + 1..])
        });
    }
    after
}

/// Where an ASCII text begins, in whatever case; looks no further than it must.
fn find_ignoring_case(text: &str, ascii: &str) -> Option<usize> {
    text.as_bytes().windows(ascii.len()).position(|window| window.eq_ignore_ascii_case(ascii.as_bytes()))
}

/// Decodes one entity at the start of `rest`; what is none stays as it is.
fn decode<'t>(rest: &'t str, out: &mut String) -> &'t str {
    if let Some(end) = rest.char_indices().take(12).find(|(_, c)| *c == ';').map(|(at, _)| at)
        && let Some(text) = entity(&rest[1..end])
    {
        out.push(text);
        return &rest[end + 1..];
    }
    out.push('&');
    &rest[1..]
}

/// The character of an entity's name (without `&` and `;`): character references, the predefined ones and the few
/// that feeds use.
pub(super) fn entity(name: &str) -> Option<char> {
    if let Some(digits) = name.strip_prefix('#') {
        let code = match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => digits.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| !c.is_control() || c.is_whitespace());
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "hellip" => '…',
        "mdash" => '—',
        "ndash" => '–',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "euro" => '€',
        "pound" => '£',
        "copy" => '©',
        _ => return None,
    })
}
