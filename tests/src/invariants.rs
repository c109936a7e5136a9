//! What must hold whatever happened, read from the database itself and from what the MCP server has written down.
//!
//! Called by the fault tests, after each fault.

use anyhow::{Context as _, Result, ensure};
use std::path::Path;

/// What would be wrong, and how many of it there are; `{detail}` stands for the details of an audit event as JSON.
const NONE_OF: [(&str, &str); 4] = [
    (
        "attempts were reported twice",
        "SELECT count(*) FROM (
             SELECT task_id FROM audit_logs WHERE action = 'task.reported' GROUP BY task_id, {detail} ->> 'attempt'
             HAVING count(*) > 1) AS t",
    ),
    (
        "tasks were approved twice",
        "SELECT count(*) FROM (
             SELECT task_id FROM audit_logs WHERE action = 'task.approved' GROUP BY task_id HAVING count(*) > 1) AS t",
    ),
    (
        "tasks count as approved and nobody has approved them",
        "SELECT count(*) FROM tasks WHERE status = 'approved' AND NOT EXISTS (
             SELECT 1 FROM audit_logs WHERE audit_logs.task_id = tasks.id AND action = 'task.approved')",
    ),
    (
        "effects are in the ledger twice",
        "SELECT count(*) FROM (
             SELECT 1 FROM effects GROUP BY lineage, ordinal, tool, arguments_hash HAVING count(*) > 1) AS t",
    ),
];

/// Of every task one accepted result, no attempt accepted twice, no effect twice in the ledger.
///
/// # Errors
/// With what does not hold.
pub async fn check(detail: &str, count: impl AsyncFn(&str) -> Result<i64>) -> Result<()> {
    for (what, sql) in NONE_OF {
        let found = count(&sql.replace("{detail}", detail)).await?;
        ensure!(found == 0, "{found} {what}");
    }
    Ok(())
}

/// Nothing was published twice, as the server that publishes has it; how many posts there are.
///
/// # Errors
/// When one is there twice.
pub fn check_posts(file: &Path) -> Result<usize> {
    let posts = chimera_mcp::social::read_posts(file).context("social's posts")?;
    let mut texts: Vec<&str> = posts.iter().map(|post| post.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    ensure!(texts.len() == posts.len(), "{} posts, {} different ones", posts.len(), texts.len());
    Ok(posts.len())
}
