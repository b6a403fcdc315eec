"""A collector of OTLP over gRPC that writes each span it gets as a line of JSON."""

import json
import sys
from concurrent import futures
from pathlib import Path

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

spans, listening = Path(sys.argv[1]), Path(sys.argv[2])


def values(attributes):
    kinds = ((each.key, each.value, each.value.WhichOneof("value")) for each in attributes)
    return {key: getattr(value, kind) for key, value, kind in kinds}


class Collector(services.TraceServiceServicer):
    def Export(self, request, context):
        with spans.open("a") as out:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        told = {
                            "resource": values(resource.resource.attributes),
                            "scope": scope.scope.name,
                            "trace": span.trace_id.hex(),
                            "span": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "name": span.name,
                            "kind": span.kind,
                            "nanos": span.end_time_unix_nano - span.start_time_unix_nano,
                            "attributes": values(span.attributes),
                            "events": [
                                {"name": event.name, **values(event.attributes)} for event in span.events
                            ],
                            "failed": span.status.code == 2,
                        }
                        out.write(json.dumps(told) + "\n")
        return messages.ExportTraceServiceResponse()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
services.add_TraceServiceServicer_to_server(Collector(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
aside = listening.with_suffix(".tmp")
aside.write_text(str(port))
aside.rename(listening)
server.wait_for_termination()
