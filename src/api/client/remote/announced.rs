//! How clients over HTTPS ask what a server of ours has told watches ([`troupe_api::ApiService::announced`]):
//! `GET /debug/troupe/announced?resource=pods&resource=leases.coordination.k8s.io` is answered by `{"pods": 1207}`, where nothing is known of
//! leases. Who names no resource asks about all. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use troupe_api::{
    meta::{GroupResource, Revision},
    service::Announced,
    status::Status,
};

/// Where it is asked.
pub const PATH: &str = "/debug/troupe/announced";
/// The parameter that names a resource, repeated.
pub const RESOURCE: &str = "resource";
/// How long an answer is new enough. It is a request for each process of the cluster, and a lag is to be noticed within seconds.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// A server that cannot answer, or does not let us ask, may be another one later.
const ASK_LATER: Duration = Duration::from_secs(60);
/// Who wants to know of more asks about all: a question has an end, and there may be thousands of definitions.
const MOST_NAMED: usize = 100;

/// Path and query of the question.
pub fn question(resources: &[GroupResource]) -> String {
    let named: BTreeSet<_> = resources.iter().map(|resource| format!("{RESOURCE}={resource}")).collect();
    if named.len() > MOST_NAMED {
        return PATH.to_owned();
    }
    format!("{PATH}?{}", named.into_iter().collect::<Vec<_>>().join("&"))
}

/// The resource that a parameter names.
pub fn resource(named: &str) -> GroupResource {
    let (resource, group) = named.split_once('.').unwrap_or((named, ""));
    GroupResource::new(group, resource)
}

/// The answer as it is sent.
pub fn document(resources: &[GroupResource], announced: &Announced) -> Bytes {
    let known = resources.iter().zip(&announced.revisions).filter_map(|(resource, revision)| Some((resource.to_string(), (*revision)?)));
    serde_json::to_vec(&known.collect::<BTreeMap<_, _>>()).expect("plain data encodes").into()
}

/// What an answer says.
pub fn answered(resources: &[GroupResource], answer: Result<Bytes, Status>) -> Announced {
    let told = match answer {
        Ok(body) => serde_json::from_slice::<BTreeMap<String, Revision>>(&body).ok(),
        Err(status) if matches!(status.code, 403..=405) => None,
        // It was not reached.
        Err(_) => Some(BTreeMap::new()),
    };
    let Some(told) = told else { return Announced { revisions: Vec::new(), ask_again: ASK_LATER } };
    Announced { revisions: resources.iter().map(|resource| told.get(&resource.to_string()).copied()).collect(), ask_again: ASK_AGAIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_the_server_knows() {
        let resources = [GroupResource::new("", "pods"), GroupResource::new("coordination.k8s.io", "leases")];
        let asked = question(&resources);
        assert_eq!(asked, "/debug/troupe/announced?resource=leases.coordination.k8s.io&resource=pods");
        let mut named: Vec<_> = asked.split(['?', '&']).skip(1).filter_map(|part| Some(resource(part.split_once('=')?.1))).collect();
        named.reverse();
        assert_eq!(named, resources);
        let many: Vec<_> = (0..=MOST_NAMED).map(|at| GroupResource::new("example.com", format!("things{at}"))).collect();
        assert_eq!(question(&many), PATH, "about all");
        let known = Announced { revisions: vec![Some(Revision(7)), None], ask_again: Duration::ZERO };
        let document = document(&resources, &known);
        assert_eq!(&document[..], br#"{"pods":7}"#);
        assert_eq!(answered(&resources, Ok(document)), Announced { ask_again: ASK_AGAIN, ..known });
    }

    #[test]
    fn who_cannot_answer_is_asked_later_and_who_was_not_reached_soon() {
        let resources = [GroupResource::new("", "pods")];
        let pause = |answer| answered(&resources, answer).ask_again;
        assert_eq!([pause(Err(Status::page_not_found())), pause(Ok("an error page".into()))], [ASK_LATER; 2]);
        assert_eq!(pause(Err(Status::unavailable("restarting"))), ASK_AGAIN);
    }
}
