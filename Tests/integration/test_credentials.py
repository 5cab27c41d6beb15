"""Where credentials come from: each way on a real mount, of a store that refuses every other key."""

import hashlib
import json
import pathlib
import time

import boto3
import pytest

from harness.credential_services import CONTAINER_TOKEN, LOGIN_TOKEN, CredentialServices, Moto
from harness.inventory import BUCKET
from harness.processes import free_port, wait_until
from harness.seaweedfs import ACCESS_KEY, SECRET_KEY

NO_KEYS = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


@pytest.fixture
def services():
    services = CredentialServices(ACCESS_KEY, SECRET_KEY)
    services.answer["SessionToken"] = "token-1"
    yield services
    services.close()


@pytest.fixture
def bare(lab):
    """A lab whose environment has no keys, and a folder ~/.aws."""
    for name in NO_KEYS:
        del lab.environment[name]
    (lab.folder / "home" / ".aws").mkdir()
    return lab


def config(lab, text):
    (lab.folder / "home" / ".aws" / "config").write_text(text)


def check(mount, inventory):
    """All chunks come as they are."""
    for name, path in inventory.chunks.items():
        assert (mount.data / name).read_bytes() == path.read_bytes()


def instance(services):
    # A service of the same machine is given a second to answer in, which this one may not have.
    return {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": services.url,
            "AWS_METADATA_SERVICE_TIMEOUT": "60"}


def test_the_role_of_an_ec2_instance(bare, services, csv_inventory):
    origin = bare.origin(csv_inventory.root, "--session-token", "token-1")
    mount = bare.mount(csv_inventory.url, "--log-level", "trace", endpoint=origin.endpoint, **instance(services))
    check(mount, csv_inventory)
    assert len(services.requests) == 3, "asked once, for a token, the role's name and its credentials"
    assert SECRET_KEY not in mount.log() and "token-1" not in mount.log()
    assert mount.logged("/latest/meta-data/iam/security-credentials"), "the trace has every request"


def test_the_role_of_a_container(bare, services, csv_inventory):
    origin = bare.origin(csv_inventory.root, "--session-token", "token-1")
    token = bare.folder / "token"
    token.write_text(CONTAINER_TOKEN + "\n")
    mount = bare.mount(csv_inventory.url, endpoint=origin.endpoint,
                       AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{services.url}/container",
                       AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(token))
    check(mount, csv_inventory)


def test_a_command_of_the_profile(bare, csv_inventory):
    origin = bare.origin(csv_inventory.root, "--session-token", "token-1")
    script = bare.folder / "give keys.sh"
    script.write_text("#!/bin/sh\necho run >>\"$1\"\ncat <<E\n" + json.dumps(
        {"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "SessionToken": "token-1"}) + "\nE\n")
    script.chmod(0o755)
    runs = bare.folder / "runs"
    config(bare, f'[profile keys]\ncredential_process = "{script}" "{runs}"\n')
    mount = bare.mount(csv_inventory.url, "--profile", "keys", endpoint=origin.endpoint, foreground=False)
    check(mount, csv_inventory)
    assert runs.read_text() == "run\n"


def test_a_login(bare, services, csv_inventory):
    origin = bare.origin(csv_inventory.root, "--session-token", "token-1")
    config(bare, "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Reader\n"
                 "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n")
    environment = {"AWS_ENDPOINT_URL_SSO": services.url, "AWS_PROFILE": "dev"}
    mountpoint = bare.mountpoint("before")
    refused = bare.inventoryfs("mount", csv_inventory.url, mountpoint, "--endpoint-url", origin.endpoint, **environment)
    assert refused.returncode == 1 and "aws sso login --profile dev" in refused.stderr
    cache = bare.folder / "home" / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    (cache / f"{hashlib.sha1(b'corp').hexdigest()}.json").write_text(
        json.dumps({"accessToken": LOGIN_TOKEN, "expiresAt": end}))
    check(bare.mount(csv_inventory.url, endpoint=origin.endpoint, **environment), csv_inventory)


@pytest.fixture
def moto(bare, csv_inventory):
    """An AWS with the inventory, and a role that a user with keys may take, and whoever has a token."""
    moto = Moto(bare.folder, bare.environment)
    try:
        moto.role = set_up(moto, csv_inventory)
        moto.enforce()
        yield moto
    finally:
        moto.close()


def set_up(moto, inventory):
    def client(service):
        return boto3.client(service, endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="x",
                            aws_secret_access_key="x")

    s3, iam = client("s3"), client("iam")
    s3.create_bucket(Bucket=BUCKET)
    for key in [*inventory.keys, inventory.manifest_key]:
        s3.put_object(Bucket=BUCKET, Key=key, Body=inventory.path(key).read_bytes())

    def policy(*actions):
        return json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": list(actions), "Resource": "*"}]})

    iam.create_user(UserName="user")
    iam.put_user_policy(UserName="user", PolicyName="p", PolicyDocument=policy("sts:AssumeRole"))
    keys = iam.create_access_key(UserName="user")["AccessKey"]
    moto.keys = (keys["AccessKeyId"], keys["SecretAccessKey"])
    role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=policy("sts:AssumeRole"))["Role"]["Arn"]
    iam.put_role_policy(RoleName="reader", PolicyName="p", PolicyDocument=policy("s3:GetObject"))
    return role


def test_a_role_is_taken_with_the_keys_of_another_profile(bare, moto, csv_inventory):
    config(bare, f"[profile reader]\nrole_arn = {moto.role}\nsource_profile = user\n"
                 f"[profile user]\naws_access_key_id = {moto.keys[0]}\naws_secret_access_key = {moto.keys[1]}\n")
    environment = {"AWS_ENDPOINT_URL_STS": moto.endpoint}
    refused = bare.inventoryfs("mount", csv_inventory.url, bare.mountpoint("user"), "--profile", "user",
                               "--endpoint-url", moto.endpoint, **environment)
    assert refused.returncode == 1 and "access denied" in refused.stderr, "the user alone may not read"
    mount = bare.mount(csv_inventory.url, "--profile", "reader", endpoint=moto.endpoint, **environment)
    check(mount, csv_inventory)


def test_a_role_is_taken_with_a_token_of_the_environment(bare, moto, csv_inventory):
    token = bare.folder / "token"
    token.write_text("header.payload.signature\n")
    moto.enforce(after=1)
    mount = bare.mount(csv_inventory.url, endpoint=moto.endpoint, AWS_ENDPOINT_URL_STS=moto.endpoint,
                       AWS_ROLE_ARN=moto.role, AWS_WEB_IDENTITY_TOKEN_FILE=str(token))
    check(mount, csv_inventory)


def test_what_a_service_renews_is_used_without_an_error(bare, services, csv_inventory):
    """The store knows the new ones only, as after their end."""
    port = free_port()
    first = bare.origin(csv_inventory.root, "--port", port, "--session-token", "token-1")
    mount = bare.mount(csv_inventory.url, endpoint=first.endpoint, **instance(services))
    first.close()
    bare.origin(csv_inventory.root, "--port", port, "--session-token", "token-2")
    services.answer["SessionToken"] = "token-2"
    check(mount, csv_inventory)


def test_credentials_are_renewed_before_they_end(bare, services, csv_inventory):
    services.expires_in_seconds = 200
    origin = bare.origin(csv_inventory.root, "--session-token", "token-1")
    began = time.monotonic()
    mount = bare.mount(csv_inventory.url, endpoint=origin.endpoint, **instance(services))
    names = list(csv_inventory.chunks)
    (mount.data / names[0]).read_bytes()
    time.sleep(11)  # No sooner is a service asked again.
    (mount.data / names[1]).read_bytes()
    wait_until(lambda: len(services.requests) >= 6, "the service to be asked again")
    # As often as the time allows in which this ran, be it long; a second's fraction is not counted.
    assert len(services.requests) <= 3 * (1 + (time.monotonic() - began) // 9)
    assert "error" not in mount.log().lower()


def test_where_no_credentials_are_the_message_says_where_they_were_looked_for(bare, csv_inventory):
    origin = bare.origin(csv_inventory.root)
    result = bare.inventoryfs("mount", csv_inventory.url, bare.mountpoint(), "--endpoint-url", origin.endpoint,
                              "--read-timeout", "1h", AWS_EC2_METADATA_DISABLED="false",
                              AWS_EC2_METADATA_SERVICE_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert result.returncode == 1
    for part in ("AWS_ACCESS_KEY_ID", "'default'", "AWS_ROLE_ARN", "container", "EC2 instance", "--no-sign-request"):
        assert part in result.stderr
