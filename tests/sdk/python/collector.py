"""A collector that tells each span, metric and message it is sent by OTLP, a JSON object a line.

It listens on a port of its own and tells that first. Bodies are read by OpenTelemetry's own definitions.
"""

import gzip
import http.server
import json
import threading

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def service(resource):
    return {pair.key: pair.value.string_value for pair in resource.attributes}["service.name"]


def spans(body):
    for of in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in of.scope_spans:
            for span in scope.spans:
                yield {"span": span.name, "trace": span.trace_id.hex(), "kind": span.kind, "service": service(of.resource)}


def metrics(body):
    for of in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for scope in of.scope_metrics:
            for metric in scope.metrics:
                yield {"metric": metric.name, "unit": metric.unit, "service": service(of.resource)}


def messages(body):
    for of in ExportLogsServiceRequest.FromString(body).resource_logs:
        for scope in of.scope_logs:
            for record in scope.log_records:
                yield {"message": record.body.string_value, "trace": record.trace_id.hex(), "service": service(of.resource)}


LOCK = threading.Lock()
READERS = {"/v1/traces": spans, "/v1/metrics": metrics, "/v1/logs": messages}


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with LOCK:
            for told in READERS[self.path](body):
                print(json.dumps(told), flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
