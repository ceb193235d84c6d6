package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// SyncsAlways asks a server's monitoring address whether it fsyncs before each
// acknowledgement. No client API tells.
func SyncsAlways(ctx context.Context, monitorURL string) (bool, error) {
	var jsz struct {
		Config struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	}
	status, err := monitor(ctx, monitorURL, "/jsz?config=true", &jsz)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("nats.monitor_url answers %d, and not as a NATS server's monitoring does", status)
	}
	return jsz.Config.SyncAlways, err
}

// Healthy asks a server's monitoring address how the server is.
func Healthy(ctx context.Context, monitorURL string) error {
	var healthz struct {
		Status string `json:"status"`
		Error  string `json:"error"`
	}
	status, err := monitor(ctx, monitorURL, "/healthz", &healthz)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the NATS server is unwell: %s %s", healthz.Status, healthz.Error)
	}
	return err
}

func monitor(ctx context.Context, monitorURL, path string, answer any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(monitorURL, "/")+path, nil)
	if err != nil {
		return 0, fmt.Errorf("nats.monitor_url: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("nats.monitor_url: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return 0, fmt.Errorf("nats.monitor_url answers %s, and not as a NATS server's monitoring does", resp.Status)
	}
	return resp.StatusCode, nil
}
