//! Parameters of requests, responses and tensors.

use std::collections::BTreeMap;
use std::time::Duration;

use inferring_types::{SequenceId, ServiceError};

use super::inference::InferParameter;
use super::inference::infer_parameter::ParameterChoice;
use crate::standing;

/// Parameters by name.
pub(super) type Parameters = BTreeMap<String, InferParameter>;

/// A parameter that is true or false; `None` where it is absent.
pub(super) fn boolean(parameters: &Parameters, name: &str) -> Result<Option<bool>, ServiceError> {
    match choice(parameters, name) {
        None => Ok(None),
        Some(ParameterChoice::BoolParam(value)) => Ok(Some(*value)),
        Some(_) => Err(mistyped(name, "true or false, as `bool_param`")),
    }
}

/// A parameter that is a whole number and not negative; 0 where it is absent.
pub(super) fn unsigned(
    parameters: &Parameters,
    name: &str,
    expected: &str,
) -> Result<u64, ServiceError> {
    let value = match choice(parameters, name) {
        None => Some(0),
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(*value).ok(),
        Some(ParameterChoice::Uint64Param(value)) => Some(*value),
        Some(_) => None,
    };
    value.ok_or_else(|| mistyped(name, expected))
}

/// A parameter that is a time in microseconds; `None` where it is absent or 0.
pub(super) fn microseconds(
    parameters: &Parameters,
    name: &str,
) -> Result<Option<Duration>, ServiceError> {
    let value = unsigned(parameters, name, "microseconds, as `int64_param`")?;
    Ok((value > 0).then(|| Duration::from_micros(value)))
}

/// A parameter that names a sequence; `None` where it is absent, 0 or empty.
pub(super) fn sequence_id(
    parameters: &Parameters,
    name: &str,
) -> Result<Option<SequenceId>, ServiceError> {
    match choice(parameters, name) {
        None => Ok(None),
        // Clients that have no other type for it send the upper half of the numbers so.
        Some(ParameterChoice::Int64Param(value)) => {
            Ok(standing::sequence_of_number(value.cast_unsigned()))
        }
        Some(ParameterChoice::Uint64Param(value)) => Ok(standing::sequence_of_number(*value)),
        Some(ParameterChoice::StringParam(value)) => standing::sequence_of_text(value)
            .map_err(|error| ServiceError::invalid(format!("parameter `{name}`: {error}"))),
        Some(_) => Err(mistyped(name, "a number or a text")),
    }
}

/// Whether a parameter is there and says more than nothing: 0, false or an empty text.
pub(super) fn is_given(parameters: &Parameters, name: &str) -> bool {
    match choice(parameters, name) {
        None => false,
        Some(ParameterChoice::BoolParam(value)) => *value,
        Some(ParameterChoice::Int64Param(value)) => *value != 0,
        Some(ParameterChoice::Uint64Param(value)) => *value != 0,
        Some(ParameterChoice::DoubleParam(value)) => *value != 0.0,
        Some(ParameterChoice::StringParam(value)) => !value.is_empty(),
    }
}

pub(super) fn text(value: &str) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(value.to_owned())) }
}

pub(super) fn truth(value: bool) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(value)) }
}

pub(super) fn integer(value: impl TryInto<i64>) -> InferParameter {
    let value = value.try_into().unwrap_or(i64::MAX);
    InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(value)) }
}

fn choice<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a ParameterChoice> {
    parameters.get(name)?.parameter_choice.as_ref()
}

fn mistyped(name: &str, expected: &str) -> ServiceError {
    ServiceError::invalid(format!("parameter `{name}`: expected {expected}"))
}
