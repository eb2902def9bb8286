"""Envoy's authorization service on grpcio: allows what says `good`, refuses what says `bad`, fails for all else."""

import json
import sys
from concurrent import futures

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2 as auth
from envoy.service.auth.v3 import external_auth_pb2_grpc
from google.protobuf import json_format


def option(key, value):
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=key, value=value))


class Service(external_auth_pb2_grpc.AuthorizationServicer):
    def Check(self, request, context):
        asked = request.attributes.request.http
        said = asked.headers.get("authorization")
        answer = auth.CheckResponse()
        if said == "good":
            told = json_format.MessageToDict(request)
            answer.ok_response.headers.append(option("x-told", json.dumps(told)))
            answer.ok_response.headers_to_remove.append("x-admin")
            answer.ok_response.response_headers_to_add.append(option("x-checked", "yes"))
            answer.ok_response.query_parameters_to_set.append(base_pb2.QueryParameter(key="tenant", value="a b"))
            answer.dynamic_metadata.update({"plan": "gold", "seats": 3})
        elif said == "bad":
            answer.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
            answer.denied_response.status.code = 401
            answer.denied_response.headers.append(option("www-authenticate", "Custom"))
            answer.denied_response.body = "not you"
        else:
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        return answer


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
external_auth_pb2_grpc.add_AuthorizationServicer_to_server(Service(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None)
