//! A `campaign.yaml` of a stranger: reading it never panics, and what is valid keeps its meaning as JSON.
//! Opens no file that the text names.
//! Run by `cargo fuzz run campaign_file`.

#![no_main]

use chimera_agents::planner::campaign_file::{NewCampaign, parse_skill};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(campaign) = NewCampaign::from_yaml(text) else { return };
    let title = campaign.title();
    assert!(campaign.title.is_some() || title.len() <= 80, "a made-up title is short");
    for name in campaign.file_inputs().keys() {
        assert!(campaign.inputs.contains_key(name));
    }
    for step in campaign.explicit.iter().flatten() {
        let _ = parse_skill(&step.skill);
    }
    if campaign.validate().is_ok() {
        // The CLI sends what it read as JSON: the API must read the same.
        let sent = serde_json::to_string(&campaign).expect("a campaign is JSON");
        let received: NewCampaign = serde_json::from_str(&sent).expect("the API takes what the CLI sends");
        assert_eq!(received, campaign);
    }
});
