"""An Envoy external authorization service on grpcio.

Allows the authorization `good`, denies `bad`, and fails for any other value.
"""

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
        http = request.attributes.request.http
        authorization = http.headers.get("authorization")
        response = auth.CheckResponse()
        if authorization == "good":
            received = json_format.MessageToDict(request)
            response.ok_response.headers.append(option("x-received", json.dumps(received)))
            response.ok_response.headers_to_remove.append("x-admin")
            response.ok_response.response_headers_to_add.append(option("x-checked", "yes"))
            response.ok_response.query_parameters_to_set.append(base_pb2.QueryParameter(key="tenant", value="a b"))
            response.dynamic_metadata.update({"plan": "gold", "seats": 3})
        elif authorization == "bad":
            response.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
            response.denied_response.status.code = 401
            response.denied_response.headers.append(option("www-authenticate", "Custom"))
            response.denied_response.body = "not you"
        else:
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        return response


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
external_auth_pb2_grpc.add_AuthorizationServicer_to_server(Service(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None)
