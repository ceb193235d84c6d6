package backendapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// An apiError is an answer that isn't a success, in the form of Clerk's
// errors. Codes and texts are those of Clerk's index of Backend API errors
// (clerk.com/docs/guides/development/errors/backend-api); where the index is
// silent, the constructor says so.
type apiError struct {
	status int
	items  []errorItem
}

type errorItem struct {
	Message     string         `json:"message"`
	LongMessage string         `json:"long_message"`
	Code        string         `json:"code"`
	Meta        map[string]any `json:"meta,omitempty"`
}

func (e *apiError) Error() string {
	texts := make([]string, len(e.items))
	for i, item := range e.items {
		texts[i] = item.Code + ": " + item.LongMessage
	}
	return fmt.Sprintf("%d %s", e.status, strings.Join(texts, "; "))
}

// body renders the answer; the id is for who asks Clerk about it.
func (e *apiError) body(traceID string) []byte {
	data, err := json.Marshal(struct {
		Errors  []errorItem `json:"errors"`
		TraceID string      `json:"clerk_trace_id"`
	}{e.items, traceID})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
}

func fail(status int, code, message, long string) *apiError {
	return &apiError{status: status, items: []errorItem{{Message: message, LongMessage: long, Code: code}}}
}

var (
	errHeaderFormat = fail(http.StatusUnauthorized, "authorization_header_format_invalid",
		"Invalid Authorization header format",
		`Invalid Authorization header format. Must be "Bearer <YOUR_API_KEY>"`)
	errSecretKey = fail(http.StatusUnauthorized, "clerk_key_invalid",
		"The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.",
		"The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.")
	errTooManyRequests = fail(http.StatusTooManyRequests, "too_many_requests",
		"Too many requests", "Too many requests, retry later")
	errBodyInvalid = fail(http.StatusBadRequest, "request_body_invalid",
		"Request body invalid",
		"The request body is invalid. Please consult the API documentation for more information.")
	errUnexpected = fail(http.StatusInternalServerError, "internal_clerk_error",
		"Oops, an unexpected error occurred",
		"There was an internal error on our servers. We've been notified and are working on fixing it.")
	errNotFound     = fail(http.StatusNotFound, "resource_not_found", "not found", "Resource not found")
	errURLNotFound  = fail(http.StatusNotFound, "resource_not_found", "URL not found", "The URL was not found")
	errOrganization = fail(http.StatusNotFound, "resource_not_found", "not found", "Given organization not found.")

	// Not in Clerk's index: the codes are our reading.
	errMethod = fail(http.StatusMethodNotAllowed, "method_not_allowed",
		"method not allowed", "The method isn't allowed for this URL. See the Allow header.")
	errBodyTooLarge = fail(http.StatusRequestEntityTooLarge, "request_body_too_large",
		"Request body too large", "The request body is larger than this API accepts.")
)

func errAPIVersion(given string) *apiError {
	// Not in Clerk's index: the code is our reading.
	return fail(http.StatusBadRequest, "api_version_invalid", "Invalid API version",
		fmt.Sprintf("%q is not a Clerk API version. Available versions: %s.", given, strings.Join(apiVersions, ", ")))
}

func errContentType(given string) *apiError {
	return fail(http.StatusUnsupportedMediaType, "unsupported_content_type", "Content-Type is unsupported",
		fmt.Sprintf("Content-Type %s is unsupported. You should use application/json instead.", given))
}

// form is a 422 about parameters of the request.
func form(items ...errorItem) *apiError {
	return &apiError{status: http.StatusUnprocessableEntity, items: items}
}

func formItem(param, code, message, long string) errorItem {
	return errorItem{Message: message, LongMessage: long, Code: code, Meta: map[string]any{"param_name": param}}
}

func formMissing(param string) errorItem {
	return formItem(param, "form_param_missing", "is missing", param+" must be included.")
}

func formUnknown(param string) errorItem {
	return formItem(param, "form_param_unknown", "is unknown", param+" is not a valid parameter for this request.")
}

func formNil(param string) errorItem {
	return formItem(param, "form_param_nil", "can't be nil", param+" can't be null.")
}

func formType(param, want string) errorItem {
	return formItem(param, "form_param_type_invalid", "is invalid", fmt.Sprintf("`%s` must be a `%s`.", param, want))
}

func formFormat(param, long string) errorItem {
	return formItem(param, "form_param_format_invalid", "is invalid", long)
}

func formValue(param, value string, allowed ...string) errorItem {
	long := fmt.Sprintf("%s does not match one of the allowed values for parameter %s", value, param)
	if len(allowed) > 0 {
		long = fmt.Sprintf("%s does not match the allowed values for parameter %s. Allowed values: %s",
			value, param, strings.Join(allowed, ", "))
	}
	return formItem(param, "form_param_value_invalid", "is invalid", long)
}

func formTime(param string) errorItem {
	return formItem(param, "form_param_invalid_time", "invalid format",
		param+" must contain a datetime specified in RFC3339 format (e.g. `2022-10-20T10:00:27.645Z`).")
}

func formTooLong(param string, limit int) errorItem {
	return formItem(param, "form_param_max_length_exceeded", "exceeds maximum length",
		fmt.Sprintf("%s should not exceed %d characters.", param, limit))
}

func formTooMany(param string, limit int) errorItem {
	return formItem(param, "form_param_array_size_exceeded", "exceeds maximum size",
		fmt.Sprintf("%s should not exceed %d items.", param, limit))
}

func formResource(param string) errorItem {
	return formItem(param, "form_resource_not_found", "is missing",
		fmt.Sprintf("The resource associated with the supplied %s was not found.", param))
}

func formConflict(param, existing string) errorItem {
	return formItem(param, "form_conditional_param_disallowed", "is not allowed",
		fmt.Sprintf("`%s` isn't allowed when `%s` is present.", param, existing))
}

func formRequiredWith(missing, present string) errorItem {
	return formItem(missing, "form_conditional_param_missing", "is missing",
		fmt.Sprintf("`%s` is required when `%s` is present.", missing, present))
}

func errBulkSize(most int) *apiError {
	return fail(http.StatusBadRequest, "bulk_size_exceeded", "bulk size exceeded",
		fmt.Sprintf("Parameters exceed the maximum allowed bulk processing size of %d.", most))
}

// formDataMissing is the answer to a user without any identifier.
func formDataMissing(params ...string) errorItem {
	return errorItem{
		Message:     "missing data",
		LongMessage: fmt.Sprintf("%q data doesn't match user requirements set for this instance", params),
		Code:        "form_data_missing",
		Meta:        map[string]any{"param_names": params},
	}
}

func formDuplicate(param string) errorItem {
	return formItem(param, "form_param_duplicate", "is duplicate", param+" included multiple times. There should only be one.")
}

func errOneOfQuery(names ...string) *apiError {
	return fail(http.StatusBadRequest, "missing_query_parameter", "Missing query parameter",
		fmt.Sprintf("Either of the following query parameters must be provided: %s.", strings.Join(names, ", ")))
}
