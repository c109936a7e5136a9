//! Finds near-duplicates: texts that share most of their word triples.
//! MinHash with banding keeps it linear in the number of texts; likeness is verified on the sketches before texts are joined.
//! Called where copies must not count as voices.

use std::collections::BTreeMap;

const HASHES: usize = 24;
const ROWS: usize = 3;
/// Share of equal sketch entries from which two texts are the same text.
const SAME: f64 = 0.6;

/// For each text (as its words) the index of the first text of its cluster; a text without a twin is its own.
#[must_use]
pub fn clusters(texts: &[Vec<u64>]) -> Vec<usize> {
    let sketches: Vec<Option<[u64; HASHES]>> = texts.iter().map(|words| sketch(words)).collect();
    let mut first: Vec<usize> = (0..texts.len()).collect();
    let mut buckets = BTreeMap::<(usize, u64), usize>::new();
    for (at, sketch) in sketches.iter().enumerate() {
        let Some(sketch) = sketch else { continue };
        for (band, rows) in sketch.chunks(ROWS).enumerate() {
            let bucket = rows.iter().fold(0, |hash, row| mix(hash ^ row));
            let other = *buckets.entry((band, bucket)).or_insert(at);
            if other == at || first[at] != at {
                continue;
            }
            if sketches[other].as_ref().is_some_and(|twin| alike(sketch, twin) >= SAME) {
                first[at] = first[other];
            }
        }
    }
    first
}

fn alike(a: &[u64; HASHES], b: &[u64; HASHES]) -> f64 {
    let same = a.iter().zip(b).filter(|(x, y)| x == y).count();
    same as f64 / HASHES as f64
}

/// The least hash of all word triples, under each of the hash functions; short texts count as one shingle.
fn sketch(words: &[u64]) -> Option<[u64; HASHES]> {
    if words.is_empty() {
        return None;
    }
    let mut least = [u64::MAX; HASHES];
    let shingles = words.windows(3.min(words.len()));
    for shingle in shingles {
        let hash = shingle.iter().fold(0x9e37_79b9_7f4a_7c15, |hash, word| mix(hash ^ word));
        let mut one = hash;
        for slot in &mut least {
            one = mix(one.wrapping_add(0x9e37_79b9_7f4a_7c15));
            *slot = (*slot).min(one);
        }
    }
    Some(least)
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<u64> {
        text.split_whitespace().map(|word| word.bytes().fold(7, |hash, byte| mix(hash ^ u64::from(byte)))).collect()
    }

    #[test]
    fn copies_join_and_others_do_not() {
        let texts = [
            "buy cheap watches now at our wonderful new shop in town today friends",
            "the committee published its yearly report on the state of the rivers",
            "buy cheap watches now at our wonderful new shop in town today folks",
            "the rivers are fine says the yearly report",
            "hi",
            "hi",
            "",
        ]
        .map(words);
        assert_eq!(clusters(&texts), [0, 1, 0, 3, 4, 4, 6]);
    }
}
