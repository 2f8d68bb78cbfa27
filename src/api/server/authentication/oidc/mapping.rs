//! What claims come to: a user, if the rules say so.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use serde_json::{Map, Value, json};
use troupe_api::{
    auth::x509::CREDENTIAL_ID,
    expressions::{Declaration, Environment, Failure, Field, Identity, Meter, ObjectType, Program, Type, Val, from_json, to_json},
    service::UserInfo,
};

use crate::authentication::config::{Jwt, Mapping};

/// What one expression may cost.
const MOST: u64 = 1_000_000;

/// What an expression may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// `claims`.
    Claims,
    /// `user`.
    User,
}

static CLAIMS: LazyLock<Environment> =
    LazyLock::new(|| Environment::default().with("claims", Arc::new(Declaration::map(Declaration::any(), u64::MAX))));
static USER: LazyLock<Environment> = LazyLock::new(|| {
    let text = || Declaration::plain(Type::String, u64::MAX, 2);
    let texts = || Declaration::list(text(), Identity::Place, u64::MAX);
    let fields = [("username", text()), ("uid", text()), ("groups", texts()), ("extra", Declaration::map(texts(), u64::MAX))];
    let field = |(name, declaration): (&str, Declaration)| (name.into(), Field { name: name.into(), declaration });
    let user = ObjectType { name: "kubernetes.UserInfo".into(), fields: fields.into_iter().map(field).collect() };
    Environment::default().with("user", Arc::new(Declaration::object(Arc::new(user), 2)))
});

fn environment(sees: Sees) -> &'static Environment {
    match sees {
        Sees::Claims => &CLAIMS,
        Sees::User => &USER,
    }
}

/// Compiles an expression; a condition must be true or false.
///
/// # Errors
/// What is wrong with it, as upstream words it.
pub fn compile(text: &str, sees: Sees, condition: bool) -> Result<Program, String> {
    let compiled = if condition { Program::compile(text, &Type::Bool, environment(sees)) } else { Program::compile_any(text, environment(sees)) };
    compiled.map_err(|failure| match failure {
        Failure::Compilation(why) => format!("compilation failed: {why}"),
        Failure::Instantiation(why) => why,
        Failure::WrongType(_) => "must evaluate to bool".to_owned(),
    })
}

/// An expression with how it is written.
struct Expression {
    text: String,
    message: String,
    program: Program,
}

impl Expression {
    fn new(text: &str, message: &str, sees: Sees, condition: bool) -> Result<Self, String> {
        Ok(Expression { text: text.to_owned(), message: message.to_owned(), program: compile(text, sees, condition)? })
    }

    /// Its value as JSON.
    fn value(&self, shown: &Value, sees: Sees) -> Result<Value, String> {
        let declared = &environment(sees).variables[0].declaration;
        let failed = |why: &str| format!("expression '{}' resulted in error: {why}", self.text);
        let shown = from_json(shown, declared).map_err(|fault| failed(fault.text()))?;
        let mut meter = Meter::new(MOST);
        meter.begin();
        let value = self.program.evaluate(&[Some(shown)], &mut meter).map_err(|fault| failed(fault.text()))?;
        match value {
            Val::String(_) | Val::Bool(_) | Val::List(_) => to_json(&value, &mut meter).map_err(|fault| failed(fault.text())),
            _ => Ok(Value::Null),
        }
    }
}

enum Source {
    Claim { claim: String, prefix: String },
    Expression(Expression),
}

impl Source {
    fn new(claim: &str, prefix: Option<&str>, expression: &str) -> Result<Option<Self>, String> {
        match (claim, expression) {
            ("", "") => Ok(None),
            ("", text) => Expression::new(text, "", Sees::Claims, false).map(Source::Expression).map(Some),
            (claim, _) => Ok(Some(Source::Claim { claim: claim.to_owned(), prefix: prefix.unwrap_or_default().to_owned() })),
        }
    }

    fn of(mapping: &Mapping) -> Result<Option<Self>, String> {
        Source::new(&mapping.claim, mapping.prefix.as_deref(), &mapping.expression)
    }
}

/// How an issuer's claims become users.
pub struct UserMapping {
    username: Source,
    groups: Option<Source>,
    uid: Option<Source>,
    extra: Vec<(String, Expression)>,
    required: Vec<(String, String)>,
    claim_rules: Vec<Expression>,
    user_rules: Vec<Expression>,
}

impl UserMapping {
    /// # Errors
    /// What is wrong with an expression.
    pub fn new(jwt: &Jwt) -> Result<Self, String> {
        let mappings = &jwt.claim_mappings;
        let extra = |extra: &crate::authentication::config::Extra| {
            Ok::<_, String>((extra.key.clone(), Expression::new(&extra.value_expression, "", Sees::Claims, false)?))
        };
        let (by_claim, by_expression): (Vec<_>, Vec<_>) = jwt.claim_validation_rules.iter().partition(|rule| !rule.claim.is_empty());
        Ok(UserMapping {
            username: Source::of(&mappings.username)?.ok_or("claim or expression is required")?,
            groups: Source::of(&mappings.groups)?,
            uid: Source::new(&mappings.uid.claim, None, &mappings.uid.expression)?,
            extra: mappings.extra.iter().map(extra).collect::<Result<_, _>>()?,
            required: by_claim.into_iter().map(|rule| (rule.claim.clone(), rule.required_value.clone())).collect(),
            claim_rules: by_expression
                .into_iter()
                .map(|rule| Expression::new(&rule.expression, &rule.message, Sees::Claims, true))
                .collect::<Result<_, _>>()?,
            user_rules: jwt
                .user_validation_rules
                .iter()
                .map(|rule| Expression::new(&rule.expression, &rule.message, Sees::User, true))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The user that claims stand for.
    ///
    /// # Errors
    /// Why there is none, in upstream's words.
    pub fn user(&self, claims: &Map<String, Value>) -> Result<UserInfo, String> {
        let shown = Value::Object(claims.clone());
        let name = self.name(claims, &shown)?;
        let groups = self.groups(claims, &shown)?;
        let uid = self.uid(claims, &shown)?;
        let user = UserInfo { name, groups, uid, extra: self.extra(claims, &shown)? };
        for (claim, wanted) in &self.required {
            let found = claims.get(claim).ok_or_else(|| format!("oidc: required claim {claim} not present in ID token"))?;
            let found = found.as_str().ok_or_else(|| format!("oidc: parse claim {claim}: it is no string"))?;
            if found != wanted {
                return Err(format!("oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}"));
            }
        }
        let judged = |rules: &[Expression], shown: &Value, sees, what: &str| {
            hold(rules, shown, sees).map_err(|why| format!("oidc: error evaluating {what}: {why}"))
        };
        judged(&self.claim_rules, &shown, Sees::Claims, "claim validation expression")?;
        if !self.user_rules.is_empty() {
            let shown = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
            judged(&self.user_rules, &shown, Sees::User, "user info validation rule")?;
        }
        Ok(user)
    }

    fn name(&self, claims: &Map<String, Value>, shown: &Value) -> Result<String, String> {
        match &self.username {
            Source::Expression(expression) => {
                let told = |why: &str| format!("oidc: error evaluating username claim expression: {why}");
                match expression.value(shown, Sees::Claims).map_err(|why| told(&why))? {
                    Value::String(name) if name.is_empty() => Err("oidc: empty username via CEL expression is not allowed".into()),
                    Value::String(name) => Ok(name),
                    _ => Err(told("username claim expression must return a string")),
                }
            }
            Source::Claim { claim, prefix } => {
                let name = text_of(claims, claim).map_err(|why| format!("oidc: parse username claims {claim:?}: {why}"))?;
                match claims.get("email_verified").filter(|_| claim == "email") {
                    Some(Value::Bool(false)) => return Err("oidc: email not verified".into()),
                    Some(Value::Bool(true)) | None => {}
                    Some(_) => return Err("oidc: parse 'email_verified' claim: it is no boolean".into()),
                }
                Ok(format!("{prefix}{name}"))
            }
        }
    }

    fn groups(&self, claims: &Map<String, Value>, shown: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            None => Ok(Vec::new()),
            Some(Source::Claim { claim, prefix }) => {
                let Some(value) = claims.get(claim) else { return Ok(Vec::new()) };
                let groups = match value {
                    Value::String(group) => vec![group.as_str()],
                    Value::Array(groups) => groups.iter().map(Value::as_str).collect::<Option<Vec<_>>>().ok_or_else(|| no_texts(claim))?,
                    _ => return Err(no_texts(claim)),
                };
                Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
            Some(Source::Expression(expression)) => {
                texts(expression, shown).map_err(|why| format!("oidc: error evaluating group claim expression: {why}"))
            }
        }
    }

    fn uid(&self, claims: &Map<String, Value>, shown: &Value) -> Result<String, String> {
        match &self.uid {
            None => Ok(String::new()),
            Some(Source::Claim { claim, .. }) => {
                text_of(claims, claim).map(str::to_owned).map_err(|why| format!("oidc: parse uid claim {claim:?}: {why}"))
            }
            Some(Source::Expression(expression)) => {
                let told = |why: &str| format!("oidc: error evaluating uid claim expression: {why}");
                match expression.value(shown, Sees::Claims).map_err(|why| told(&why))? {
                    Value::String(uid) => Ok(uid),
                    _ => Err(told("uid claim expression must return a string")),
                }
            }
        }
    }

    fn extra(&self, claims: &Map<String, Value>, shown: &Value) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut extra = BTreeMap::new();
        if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = texts(expression, shown);
            let values = values.map_err(|why| format!("oidc: error evaluating extra claim expression: {}: {why}", expression.text))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        Ok(extra)
    }
}

fn no_texts(claim: &str) -> String {
    format!("oidc: parse groups claim {claim:?}: it is neither a string nor a list of strings")
}

fn text_of<'a>(claims: &'a Map<String, Value>, claim: &str) -> Result<&'a str, &'static str> {
    claims.get(claim).ok_or("claim not present")?.as_str().ok_or("it is no string")
}

/// A text or a list of texts, without empty ones.
fn texts(expression: &Expression, shown: &Value) -> Result<Vec<String>, String> {
    const WRONG: &str = "expression must return a string or a list of strings";
    let all = match expression.value(shown, Sees::Claims)? {
        Value::String(text) => vec![text],
        Value::Array(values) => {
            let text = |value: Value| if let Value::String(text) = value { Ok(text) } else { Err(WRONG.to_owned()) };
            values.into_iter().map(text).collect::<Result<_, _>>()?
        }
        Value::Null => Vec::new(),
        _ => return Err(WRONG.into()),
    };
    Ok(all.into_iter().filter(|text| !text.is_empty()).collect())
}

fn hold(rules: &[Expression], shown: &Value, sees: Sees) -> Result<(), String> {
    for rule in rules {
        match rule.value(shown, sees)? {
            Value::Bool(true) => {}
            Value::Bool(false) if rule.message.is_empty() => return Err(format!("validation expression '{}' failed", rule.text)),
            Value::Bool(false) => return Err(format!("validation expression '{}' failed: {}", rule.text, rule.message)),
            _ => return Err("validation expression must return a boolean".into()),
        }
    }
    Ok(())
}
