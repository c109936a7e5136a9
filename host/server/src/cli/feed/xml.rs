//! Posts from RSS 2.0 (and RDF) items and Atom entries.
//!
//! Reads events one by one and keeps only what a post needs. A document type with declarations is refused, so nothing
//! can be expanded; unknown elements are skipped. Called by [`super::parse`].

use super::{FeedError, MAX_POSTS, MAX_TEXT, Place, Post, field, text, too_many};
use quick_xml::Reader;
use quick_xml::events::Event;

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 64;
/// Most text gathered for one element in bytes.
const MAX_ELEMENT: usize = 8 * MAX_TEXT;

/// The fields of an item as they are gathered.
#[derive(Debug, Default)]
struct Item {
    title: String,
    summary: String,
    content: String,
    id: String,
    author: String,
    date: String,
}

/// What the text being read belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Title,
    Summary,
    Content,
    Id,
    Author,
    Date,
}

struct State<'t> {
    input: &'t str,
    /// Local names of the open elements.
    open: Vec<String>,
    /// Depth of the item's own element, while in one.
    item_depth: Option<usize>,
    item: Item,
    posts: Vec<Post>,
}

/// Reads a feed.
pub(super) fn parse(input: &str) -> Result<Vec<Post>, FeedError> {
    let mut reader = Reader::from_str(input);
    let mut state = State { input, open: Vec::new(), item_depth: None, item: Item::default(), posts: Vec::new() };
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let event = reader.read_event().map_err(|error| {
            let at = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
            FeedError::new(state.place(at), format!("is not well-formed XML: {error}"))
        })?;
        match event {
            Event::Start(start) => state.start(start.local_name().as_ref(), at)?,
            Event::End(_) => state.end()?,
            Event::Empty(_) | Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
            Event::Text(said) => state.add(&said),
            Event::CData(said) => state.add(&said),
            Event::GeneralRef(name) => match text::entity(&name) {
                Some(character) => state.add(character.encode_utf8(&mut [0; 4])),
                None => {
                    let problem =
                        format!("uses the entity `&{};`, which is not expanded", super::text::normalised(&name, 40));
                    return Err(FeedError::new(state.place(at), problem));
                }
            },
            Event::DocType(doctype) if doctype.contains('[') || doctype.contains("<!") => {
                let problem = "declares a document type of its own, which is not read: remove the <!DOCTYPE …>";
                return Err(FeedError::new(state.place(at), problem));
            }
            Event::DocType(_) => {}
            Event::Eof => return state.finish(),
        }
    }
}

impl State<'_> {
    fn place(&self, at: usize) -> Place {
        let at = chimera_core::text::floor_char_boundary(self.input, at);
        Place::Line(self.input[..at].matches('\n').count() + 1)
    }

    fn start(&mut self, name: &str, at: usize) -> Result<(), FeedError> {
        if self.open.is_empty() && !matches!(name, "rss" | "feed" | "RDF") {
            let problem = format!("begins with <{}>; expected <rss> or <feed>", text::normalised(name, 40));
            return Err(FeedError::new(self.place(at), problem));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(FeedError::new(self.place(at), format!("is nested deeper than {MAX_DEPTH} elements")));
        }
        self.open.push(chimera_core::text::truncated(name.to_owned(), 64));
        if self.item_depth.is_none() && matches!(name, "item" | "entry") {
            if self.posts.len() == MAX_POSTS {
                return Err(too_many(Place::Entry(MAX_POSTS + 1)));
            }
            self.item_depth = Some(self.open.len());
            self.item = Item::default();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), FeedError> {
        if self.item_depth == Some(self.open.len()) {
            self.item_depth = None;
            let number = self.posts.len() + 1;
            let item = std::mem::take(&mut self.item);
            self.posts.push(item.into_post(number)?);
        }
        self.open.pop();
        Ok(())
    }

    /// Where text goes depends on the item's direct child; an author's name is one level deeper in Atom.
    fn slot(&self) -> Option<Slot> {
        let depth = self.item_depth?;
        let child = self.open.get(depth)?.as_str();
        let is_deeper = self.open.len() > depth + 1;
        match child {
            "author" if is_deeper && self.open.last().map(String::as_str) != Some("name") => None,
            "title" => Some(Slot::Title),
            "description" | "summary" => Some(Slot::Summary),
            "encoded" | "content" => Some(Slot::Content),
            "guid" | "id" => Some(Slot::Id),
            "author" | "creator" => Some(Slot::Author),
            "pubDate" | "published" | "date" => Some(Slot::Date),
            _ => None,
        }
    }

    fn add(&mut self, said: &str) {
        let Some(slot) = self.slot() else { return };
        let into = match slot {
            Slot::Title => &mut self.item.title,
            Slot::Summary => &mut self.item.summary,
            Slot::Content => &mut self.item.content,
            Slot::Id => &mut self.item.id,
            Slot::Author => &mut self.item.author,
            Slot::Date => &mut self.item.date,
        };
        let room = MAX_ELEMENT.saturating_sub(into.len());
        into.push_str(&said[..chimera_core::text::floor_char_boundary(said, room)]);
    }

    fn finish(self) -> Result<Vec<Post>, FeedError> {
        match self.open.last() {
            None => Ok(self.posts),
            Some(name) => Err(FeedError::new(Place::File, format!("ends before <{name}> is closed"))),
        }
    }
}

impl Item {
    fn into_post(self, number: usize) -> Result<Post, FeedError> {
        let body = if self.content.trim().is_empty() { &self.summary } else { &self.content };
        let title = text::normalised(&text::without_markup(&self.title), MAX_TEXT);
        let body = text::normalised(&text::without_markup(body), MAX_TEXT);
        let said = text::normalised(&text::joined(&title, &body), MAX_TEXT);
        if said.is_empty() {
            return Err(FeedError::new(Place::Entry(number), "has neither a title nor a text"));
        }
        Ok(Post {
            id: field(&self.id).unwrap_or_else(|| format!("entry-{number}")),
            text: said,
            author: field(&text::without_markup(&self.author)),
            created_at: field(&self.date),
            likes: None,
        })
    }
}
