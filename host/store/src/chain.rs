//! Audit chains as SQL names them, whatever the database.
//!
//! Called by what appends to them and by the reads.

use crate::rows::{PortResult, corrupt};
use chimera_core::audit::{Head, genesis};
use chimera_core::ids::CampaignId;
use std::borrow::Cow;

/// A chain: a campaign's, or the system's.
pub(crate) type Chain = Option<CampaignId>;

/// Where a chain begins.
pub(crate) fn beginning(chain: Chain) -> Head {
    Head { seq: 0, hash: genesis(chain) }
}

/// A head as a row has it.
pub(crate) fn head_of(chain: Chain, (seq, hash): (i64, String)) -> PortResult<Head> {
    let row = format!("{} {seq}", name_of(chain));
    Ok(Head {
        seq: u64::try_from(seq).map_err(|error| corrupt("audit_heads", &row, error))?,
        hash: hash.parse().map_err(|error| corrupt("audit_heads", &row, error))?,
    })
}

const SYSTEM: &str = "system";

/// A chain's name in SQL.
pub(crate) fn name_of(chain: Chain) -> Cow<'static, str> {
    chain.map_or(Cow::Borrowed(SYSTEM), |campaign| Cow::Owned(campaign.to_string()))
}

/// The chain of that name in SQL.
pub(crate) fn named(name: &str) -> PortResult<Chain> {
    if name == SYSTEM {
        return Ok(None);
    }
    name.parse().map(Some).map_err(|error| corrupt("audit_logs", name, error))
}
