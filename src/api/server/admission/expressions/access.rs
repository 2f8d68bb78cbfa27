//! The authorizer as expressions ask it. What was answered once stays so for a request.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;
use troupe_api::{
    auth::{Attributes, Authorizer, Decision, Selection},
    expressions::{Answer, Permissions, Question, Subject},
    meta::{FieldSelector, LabelSelector},
    service::UserInfo,
};

use crate::admission::Attributes as Request;

/// Who may do what, on behalf of a request.
#[derive(Clone)]
pub struct Access {
    permissions: Arc<Known>,
    /// The resource of the request.
    resource: Question,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("resource", &self.resource).finish_non_exhaustive()
    }
}

/// Who may do what, and the verb.
type Asked = (Subject, Question, Box<str>);

struct Known {
    /// Without one, everybody may everything.
    authorizer: Option<Arc<dyn Authorizer>>,
    requester: UserInfo,
    answers: Mutex<HashMap<Asked, Answer>>,
}

impl Access {
    pub fn of(request: &Request<'_>) -> Self {
        let target = request.target;
        let resource = Question {
            group: (*target.resource.group).into(),
            resource: (*target.resource.plural).into(),
            subresource: (*target.subresource).into(),
            namespace: request.namespace().into(),
            name: request.name().into(),
            ..Question::default()
        };
        let authorizer = request.reads.authorizer().cloned();
        Access { permissions: Arc::new(Known { authorizer, requester: request.user.clone(), answers: Mutex::default() }), resource }
    }

    pub fn permissions(&self) -> Arc<dyn Permissions> {
        self.permissions.clone()
    }

    pub fn request_resource(&self) -> Question {
        self.resource.clone()
    }
}

impl Permissions for Known {
    fn check(&self, subject: &Subject, question: &Question, verb: &str) -> Answer {
        let key = (subject.clone(), question.clone(), Box::from(verb));
        if let Some(known) = self.answers.lock().get(&key) {
            return known.clone();
        }
        let answer = self.ask(subject, question, verb);
        self.answers.lock().insert(key, answer.clone());
        answer
    }
}

impl Known {
    fn ask(&self, subject: &Subject, question: &Question, verb: &str) -> Answer {
        let Some(authorizer) = &self.authorizer else { return Answer { allowed: true, reason: "".into() } };
        let account;
        let user = match subject {
            Subject::Requester => &self.requester,
            Subject::ServiceAccount { namespace, name } => {
                let groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
                account = UserInfo { name: format!("system:serviceaccount:{namespace}:{name}"), groups, ..UserInfo::default() };
                &account
            }
        };
        // What does not parse restricts nothing, as upstream.
        let fields = Some(&question.field_selector).filter(|text| !text.is_empty()).and_then(|text| FieldSelector::parse(text).ok());
        let labels = Some(&question.label_selector).filter(|text| !text.is_empty()).and_then(|text| LabelSelector::parse(text).ok());
        let attributes = match &question.path {
            Some(path) => Attributes { verb, path: Some(path), ..Attributes::default() },
            None => Attributes {
                verb,
                resource: &question.resource,
                subresource: &question.subresource,
                group: &question.group,
                version: "*",
                namespace: &question.namespace,
                name: &question.name,
                path: None,
                selection: Selection { fields: fields.as_ref(), labels: labels.as_ref() },
            },
        };
        let (decision, reason) = authorizer.explain(user, &attributes);
        Answer { allowed: decision == Decision::Allow, reason: reason.into() }
    }
}
