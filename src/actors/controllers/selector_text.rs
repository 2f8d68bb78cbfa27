//! Selectors as upstream's messages have them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// What Go prints of a selector, or of none.
pub fn selector_text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".into() };
    let labels: String = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|wanted| {
        let values = wanted.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", wanted.key, wanted.operator)
    });
    let expressions: String = expressions.collect();
    format!("&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_read_as_go_prints_them() {
        assert_eq!(selector_text(None), "nil");
        let expression = json!({"key": "tier", "operator": "In", "values": ["a", "b"]});
        let selector: LabelSelector =
            serde_json::from_value(json!({"matchLabels": {"app": "u"}, "matchExpressions": [expression]})).expect("a selector");
        let expected = "&LabelSelector{MatchLabels:map[string]string{app: u,},\
                        MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:tier,Operator:In,Values:[a b],},},}";
        assert_eq!(selector_text(Some(&selector)), expected);
    }
}
