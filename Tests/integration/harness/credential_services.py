"""Services that give out credentials, as strict as AWS's: the metadata service of EC2 (version 2), that of containers, and
the portal of IAM Identity Center, on one port. And a moto server, whose STS and S3 check every signature."""

import http.server
import json
import pathlib
import subprocess
import sys
import threading
import time
import urllib.request

from .processes import ENDS_WITH_US, free_port, wait_until

ROLE = "inventory reader"
TOKEN = "metadata+token=="
CONTAINER_TOKEN = "container-token"
LOGIN_TOKEN = "login-token"


class CredentialServices:
    def __init__(self, access_key, secret_key):
        self.answer = {"AccessKeyId": access_key, "SecretAccessKey": secret_key}
        self.expires_in_seconds = 3600
        self.requests = []
        services = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                services.requests.append(self.path)
                status, answer = services.get(self.path, self.headers)
                self.reply(status, answer if isinstance(answer, str) else json.dumps(answer))

            def do_PUT(self):
                services.requests.append(self.path)
                seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
                known = self.path == "/latest/api/token" and seconds.isdigit() and 1 <= int(seconds) <= 21600
                self.reply(200 if known else 400, TOKEN if known else "")

            def reply(self, status, text):
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, path, headers):
        end = time.time() + self.expires_in_seconds
        expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
        roles = "/latest/meta-data/iam/security-credentials/"
        if path.startswith("/latest/"):
            if headers.get("X-aws-ec2-metadata-token") != TOKEN:
                return 401, ""
            if path == roles:
                return 200, ROLE
            if path == roles + ROLE.replace(" ", "%20"):
                return 200, {"Code": "Success", "Expiration": expiration, **self.renamed("Token")}
        elif path == "/container":
            allowed = headers.get("Authorization") == CONTAINER_TOKEN
            return (200, {"Expiration": expiration, **self.renamed("Token")}) if allowed else (401, "")
        elif path == "/federation/credentials?account_id=123456789012&role_name=Reader":
            if headers.get("x-amz-sso_bearer_token") != LOGIN_TOKEN:
                return 401, ""
            names = {"AccessKeyId": "accessKeyId", "SecretAccessKey": "secretAccessKey", "SessionToken": "sessionToken"}
            fields = {names[name]: value for name, value in self.answer.items()}
            return 200, {"roleCredentials": {**fields, "expiration": int(end * 1000)}}
        return 404, ""

    def renamed(self, token):
        return {token if name == "SessionToken" else name: value for name, value in self.answer.items()}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Moto:
    """AWS in one process. From `enforce()` on, requests that are not signed, or by nobody who may, are refused."""

    def __init__(self, folder, environment):
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.log_path = pathlib.Path(folder) / "moto.log"
        server = pathlib.Path(sys.executable).with_name("moto_server")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*ENDS_WITH_US, server, "-H", "127.0.0.1", "-p", str(self.port)],
                env={**environment, "INITIAL_NO_AUTH_ACTION_COUNT": "1000000"}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        wait_until(self._is_ready, "moto to answer", 180, poll_seconds=0.1)

    def _is_ready(self):
        assert self.process.poll() is None, self.log_path.read_text()
        try:
            return urllib.request.urlopen(f"{self.endpoint}/moto-api/data.json", timeout=2).status == 200
        except OSError:
            return False

    def enforce(self, after=0):
        """Its STS looks for a signature also where AWS's wants none: so many requests pass first."""
        urllib.request.urlopen(
            urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", data=str(after).encode(), method="POST",
                                   headers={"Content-Type": "text/plain"}), timeout=10)

    def close(self):
        self.process.kill()
        self.process.wait(20)
