//! Appending to the audit chains.
//!
//! Whoever appends to a chain holds the row of its head until the transaction ends, so of two processes one links to the
//! other's events. Heads are taken last, so that they are held for as short as possible. Called by the batch.

use super::fault::{Fault, Written};
use super::text::kept;
use crate::chain::{Chain, beginning, head_of, name_of};
use crate::rows::{PortResult, body, int, name};
use chimera_core::audit::{AuditDraft, AuditEvent, Head, link};
use sqlx::{PgConnection, query, query_as};
use std::collections::BTreeMap;

/// Appends the drafts in their order, each to its chain.
pub(super) async fn append(db: &mut PgConnection, drafts: &[&AuditDraft]) -> Written<Vec<AuditEvent>> {
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let mut heads = heads(db, drafts).await?;
    let mut events = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let name = name_of(draft.campaign);
        let head = heads.entry(name.into_owned()).or_insert_with(|| beginning(draft.campaign));
        let event = link(head.seq + 1, head.hash, (*draft).clone());
        *head = Head { seq: event.seq, hash: event.hash };
        events.push(event);
    }
    insert(db, &events).await?;
    let seqs: Vec<i64> = heads.values().map(|head| int(head.seq)).collect::<PortResult<_>>()?;
    query(
        "INSERT INTO audit_heads (chain, seq, hash) SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
         ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
    )
    .bind(heads.keys().map(String::as_str).collect::<Vec<_>>())
    .bind(seqs)
    .bind(heads.values().map(|head| head.hash.to_string()).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(events)
}

/// Where the chains of these drafts end, by their names.
async fn heads(db: &mut PgConnection, drafts: &[&AuditDraft]) -> Written<BTreeMap<String, Head>> {
    let chains: BTreeMap<String, Chain> =
        drafts.iter().map(|draft| (name_of(draft.campaign).into_owned(), draft.campaign)).collect();
    let names: Vec<&str> = chains.keys().map(String::as_str).collect();
    let rows: Vec<(String, i64, String)> =
        query_as("SELECT chain, seq, hash FROM audit_heads WHERE chain = ANY($1) ORDER BY chain FOR NO KEY UPDATE")
            .bind(names)
            .fetch_all(&mut *db)
            .await?;
    let mut heads = BTreeMap::new();
    for (name, seq, hash) in rows {
        let chain = chains.get(&name).copied().flatten();
        heads.insert(name, head_of(chain, (seq, hash))?);
    }
    // A chain without a head is new, or its head was taken away: then no position is given again.
    for (name, chain) in chains.iter().filter(|(name, _)| !heads.contains_key(*name)).collect::<Vec<_>>() {
        let last: Option<(i64, String)> =
            query_as("SELECT seq, hash FROM audit_logs WHERE chain = $1 ORDER BY seq DESC LIMIT 1")
                .bind(name)
                .fetch_optional(&mut *db)
                .await?;
        if let Some(last) = last {
            heads.insert(name.clone(), head_of(*chain, last)?);
        }
    }
    Ok(heads)
}

async fn insert(db: &mut PgConnection, events: &[AuditEvent]) -> Written<()> {
    fn all<'e, T>(events: &'e [AuditEvent], column: impl Fn(&'e AuditEvent) -> T) -> Vec<T> {
        events.iter().map(column).collect()
    }
    let seqs: Vec<i64> = events.iter().map(|event| int(event.seq)).collect::<PortResult<_>>()?;
    let reviews: Vec<String> = events.iter().map(|event| name(&event.draft.review)).collect::<PortResult<_>>()?;
    let details: Vec<String> = events.iter().map(|event| body(&event.draft.detail)).collect::<PortResult<_>>()?;
    query(
        "INSERT INTO audit_logs (chain, seq, task_id, action, agent_id, timestamp, review_status, detail, prev_hash, hash)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::text[],
             $8::text[], $9::text[], $10::text[])",
    )
    .bind(all(events, |event| name_of(event.draft.campaign)))
    .bind(seqs)
    .bind(all(events, |event| event.draft.task.map(|task| task.as_uuid())))
    .bind(all(events, |event| kept(&event.draft.action)))
    .bind(all(events, |event| kept(&event.draft.actor.to_string()).into_owned()))
    .bind(all(events, |event| event.draft.at.as_millis()))
    .bind(reviews)
    .bind(details)
    .bind(all(events, |event| event.prev_hash.to_string()))
    .bind(all(events, |event| event.hash.to_string()))
    .execute(db)
    .await
    .map(drop)
    .map_err(Fault::from)
}
