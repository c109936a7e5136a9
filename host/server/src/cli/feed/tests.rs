use super::*;
use proptest::prelude::*;

fn texts(input: &str) -> Vec<String> {
    parse(input.as_bytes()).expect("a feed").into_iter().map(|post| post.text).collect()
}

fn problem(input: &str) -> String {
    parse(input.as_bytes()).expect_err("no feed").to_string()
}

#[test]
fn the_demo_s_posts_are_read() {
    let posts = parse(include_bytes!("../../../demo/posts.jsonl")).expect("the demo's posts");
    assert_eq!(posts.len(), 293);
    assert!(posts.iter().all(|post| post.text.len() >= 80));
    let ids: std::collections::BTreeSet<_> = posts.iter().map(|post| &post.id).collect();
    assert_eq!(ids.len(), posts.len());
}

#[test]
fn json_lines_take_the_usual_field_names() {
    let posts = parse(
        br#"{"id": 7, "text": "  one  two ", "user": "ada", "like_count": 3, "date": "2026-01-01"}

{"content": "three"}
{"title": "four", "body": "five"}"#,
    )
    .expect("a feed");
    assert_eq!(posts[0].id, "7");
    assert_eq!(posts[0].text, "one two");
    assert_eq!(posts[0].author.as_deref(), Some("ada"));
    assert_eq!(posts[0].likes, Some(3));
    assert_eq!(posts[0].created_at.as_deref(), Some("2026-01-01"));
    assert_eq!(posts[1].id, "post-3");
    assert_eq!(posts[2].text, "four. five");
}

#[test]
fn a_json_array_is_read_too() {
    assert_eq!(texts(r#"[{"text": "a"}, {"text": "b"}]"#), ["a", "b"]);
}

#[test]
fn errors_name_the_line_or_the_entry() {
    assert!(problem("{\"text\": \"a\"}\n{oops}").starts_with("line 2: is not JSON"));
    assert!(problem("{\"text\": \"a\"}\n\n{\"likes\": 3}").starts_with("line 3: has no text"));
    assert!(problem("[{\"text\": \"a\"}, 5]").starts_with("entry 2: is not an object"));
    assert!(problem("hello").starts_with("line 1: is neither JSON lines"));
    assert_eq!(problem(" \n"), "the file: is empty");
    assert_eq!(problem("[]"), "the file: has no posts in it");
    assert!(parse(b"{\"text\": \"a\"}\n\xff\n").expect_err("no UTF-8").to_string().starts_with("line 2: is not UTF-8"));
}

#[test]
fn rss_items_become_posts_without_markup() {
    let rss = r#"<?xml version="1.0"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>News</title>
<item><title>Rain &amp; sun</title><description>&lt;p&gt;It &lt;b&gt;rained&lt;/b&gt;.&lt;script&gt;alert(1)&lt;/script&gt;&lt;/p&gt;</description>
<guid>g1</guid><pubDate>Mon, 01 Jan 2026 00:00:00 GMT</pubDate><dc:creator>Ada</dc:creator></item>
<item><description><![CDATA[Only <i>this</i> &amp; that]]></description></item>
</channel></rss>"#;
    let posts = parse(rss.as_bytes()).expect("a feed");
    assert_eq!(posts[0].text, "Rain & sun. It rained.");
    assert_eq!(posts[0].id, "g1");
    assert_eq!(posts[0].author.as_deref(), Some("Ada"));
    assert_eq!(posts[1].text, "Only this & that");
    assert_eq!(posts[1].id, "entry-2");
}

#[test]
fn atom_entries_become_posts() {
    let atom = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title>
<entry><id>urn:1</id><title>Hello</title><author><name>Bo</name><email>x</email></author>
<published>2026-01-01T00:00:00Z</published><content type="html">Hello, &lt;br/&gt;world</content></entry></feed>"#;
    let posts = parse(atom.as_bytes()).expect("a feed");
    assert_eq!(posts[0].text, "Hello, world");
    assert_eq!(posts[0].author.as_deref(), Some("Bo"));
    assert_eq!(posts[0].created_at.as_deref(), Some("2026-01-01T00:00:00Z"));
}

#[test]
fn entities_are_never_expanded() {
    let bomb = r#"<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rss><channel><item><title>&b;</title></item></channel></rss>"#;
    assert!(problem(bomb).contains("document type"));
    let unknown = "<rss><channel>\n<item><title>&b;</title></item></channel></rss>";
    assert!(problem(unknown).starts_with("line 2: uses the entity `&b;`"));
}

#[test]
fn broken_and_foreign_xml_is_refused_with_its_line() {
    assert!(problem("<rss><channel>\n<item></channel></rss>").starts_with("line 2: is not well-formed"));
    assert!(problem("<html><body/></html>").contains("begins with <html>"));
    assert!(problem("<rss><channel><item>").contains("ends before <item> is closed"));
    assert!(problem("<rss><channel><item></item></channel></rss>").starts_with("entry 1: has neither"));
}

#[test]
fn sizes_are_capped() {
    let long = format!("{{\"text\": \"{}\"}}", "x".repeat(MAX_TEXT * 2));
    assert_eq!(texts(&long)[0].len(), MAX_TEXT);
    let many = "{\"text\": \"a\"}\n".repeat(MAX_POSTS + 1);
    assert!(problem(&many).starts_with(&format!("line {}: is one post too many", MAX_POSTS + 1)));
    let deep = format!("<rss>{}", "<a>".repeat(100));
    assert!(problem(&deep).contains("nested deeper"));
    assert!(parse(&vec![b' '; MAX_BYTES + 1]).expect_err("too large").to_string().contains("split it"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_markup_makes_it_panic(text in "[<>&;#x!/a-f \\-é\\[\\]\"']{0,200}") {
        let _ = parse(format!("<rss><channel><item><title>{text}</title></item></channel></rss>").as_bytes());
        let plain = super::text::without_markup(&text);
        prop_assert!(plain.len() <= text.len() * 2);
    }

    #[test]
    fn every_text_that_is_read_is_within_its_limit(text in "\\PC{1,400}") {
        let line = serde_json::json!({ "text": text }).to_string();
        if let Ok(posts) = parse(line.as_bytes()) {
            prop_assert_eq!(posts.len(), 1);
            prop_assert!(!posts[0].text.is_empty() && posts[0].text.len() <= MAX_TEXT);
        }
    }
}
