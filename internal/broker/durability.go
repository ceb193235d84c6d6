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
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(monitorURL, "/")+"/jsz?config=true", nil)
	if err != nil {
		return false, fmt.Errorf("nats.monitor_url: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, fmt.Errorf("nats.monitor_url: %w", err)
	}
	defer resp.Body.Close()
	var jsz struct {
		Config struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&jsz); err != nil || resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("nats.monitor_url answers %s, and not as a NATS server's monitoring does", resp.Status)
	}
	return jsz.Config.SyncAlways, nil
}
