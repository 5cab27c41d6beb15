import EmbeddedS3Origin
import Foundation
import Testing

/// Clients that others wrote, where they are installed: if they are content, so is S3's protocol.
@Suite struct ClientToolTests {
  private static let hasSigningCurl =
    (try? run("curl", ["--help", "all"]))?.contains("--aws-sigv4") ?? false
  /// The Python of the tests' environment (Tests/venv.sh), which has boto3; the system's where
  /// there is no such environment.
  private static let python: String = {
    let variables = ProcessInfo.processInfo.environment
    let caches = variables["XDG_CACHE_HOME"] ?? "\(variables["HOME"] ?? "")/.cache"
    let folder = variables["INVENTORYFS_TEST_VENV"] ?? "\(caches)/inventoryfs-tests/venv"
    let python = "\(folder)/bin/python"
    return FileManager.default.isExecutableFile(atPath: python) ? python : "python3"
  }()

  private static let oddKey = "ü/a+b c&d=e%41 (1)~'*!.txt"

  @Test("curl --aws-sigv4 signs what the server accepts", .enabled(if: hasSigningCurl))
  func curl() async throws {
    try await withOrigin { origin, endpoint in
      func get(_ arguments: String...) throws -> String {
        try run(
          "curl",
          ["-sS", "--aws-sigv4", "aws:amz:us-east-1:s3"] + arguments + ["\(endpoint)/b/plain.txt"])
      }
      let whole = try get("--user", "AK:SK")
      #expect(whole == "plain")
      let part = try get("--user", "AK:SK", "--range", "1-2")
      #expect(part == "la")
      let refused = try get("--user", "AK:KS")
      #expect(refused.contains("SignatureDoesNotMatch"))
    }
  }

  @Test("boto3 lists, reads and sees its errors as with S3")
  func boto3() async throws {
    try await withOrigin { origin, endpoint in
      for number in 0..<25 { origin.put(bucket: "b", key: "many/\(number) +", bytes: [1]) }
      let script = """
        import boto3, sys
        from botocore.config import Config
        from botocore.exceptions import ClientError
        def client(secret='SK', token=None, region='us-east-1'):
            return boto3.client('s3', endpoint_url=sys.argv[1], aws_access_key_id='AK',
                aws_secret_access_key=secret, aws_session_token=token, region_name=region,
                config=Config(retries={'max_attempts': 1}, s3={'addressing_style': 'path'}))
        def code(call):
            try: call()
            except ClientError as error: return error.response['Error']['Code']
        s3 = client()
        key = sys.argv[2]
        assert s3.get_object(Bucket='b', Key=key)['Body'].read() == b'odd'
        part = s3.get_object(Bucket='b', Key='plain.txt', Range='bytes=1-2')
        assert part['Body'].read() == b'la' and part['ContentRange'] == 'bytes 1-2/5', part
        etag = s3.head_object(Bucket='b', Key='plain.txt')['ETag']
        assert s3.get_object(Bucket='b', Key='plain.txt', IfMatch=etag)['ContentLength'] == 5
        pages = s3.get_paginator('list_objects_v2').paginate(
            Bucket='b', Prefix='many/', PaginationConfig={'PageSize': 7})
        found = [o['Key'] for page in pages for o in page['Contents']]
        assert found == sorted('many/%d +' % n for n in range(25)), found
        listed = s3.list_objects_v2(Bucket='b', Delimiter='/')
        assert [p['Prefix'] for p in listed['CommonPrefixes']] == ['many/', key.split('/')[0] + '/']
        assert s3.head_bucket(Bucket='b')['ResponseMetadata']['HTTPStatusCode'] == 200
        assert s3.get_bucket_location(Bucket='b')['LocationConstraint'] is None
        assert code(lambda: s3.get_object(Bucket='b', Key='none')) == 'NoSuchKey'
        assert code(lambda: s3.get_object(Bucket='none', Key='none')) == 'NoSuchBucket'
        assert code(lambda: s3.put_object(Bucket='b', Key='x', Body=b'x')) == 'MethodNotAllowed'
        stale = code(lambda: s3.get_object(Bucket='b', Key='plain.txt', IfMatch='"0"'))
        assert stale == 'PreconditionFailed', stale
        bad = client(secret='KS')
        assert code(lambda: bad.get_object(Bucket='b', Key=key)) == 'SignatureDoesNotMatch'
        token = client(token='T')
        assert code(lambda: token.get_object(Bucket='b', Key=key)) == 'InvalidToken'
        print('content')
        """
      let found = try run(Self.python, ["-c", "import boto3; print('yes')"])
      try #require(
        found == "yes\n",
        "\(Self.python) has no boto3: Tests/run makes an environment that has it, or set INVENTORYFS_TEST_VENV"
      )
      let verdict = try run(Self.python, ["-c", script, endpoint, Self.oddKey])
      #expect(verdict == "content\n")
      origin.setCredentials(["AK": OriginCredential(secretKey: "SK", sessionToken: "T/+=")])
      let withToken = """
        import boto3, sys
        s3 = boto3.client('s3', endpoint_url=sys.argv[1], aws_access_key_id='AK',
            aws_secret_access_key='SK', aws_session_token='T/+=', region_name='us-east-1')
        print(s3.get_object(Bucket='b', Key='plain.txt')['Body'].read().decode())
        """
      let read = try run(Self.python, ["-c", withToken, endpoint])
      #expect(read == "plain\n")
    }
  }

  private func withOrigin(
    _ body: (EmbeddedS3Origin, _ endpoint: String) async throws -> Void
  ) async throws {
    let configuration = OriginConfiguration(credentials: ["AK": "SK"])
    try await EmbeddedS3Origin.run(configuration) { origin in
      origin.put(bucket: "b", key: "plain.txt", bytes: Array("plain".utf8))
      origin.put(bucket: "b", key: Self.oddKey, bytes: Array("odd".utf8))
      try await body(origin, try #require(origin.endpointURL))
    }
  }
}

/// Runs a tool to its end and returns what it printed, errors after output.
private func run(_ tool: String, _ arguments: [String]) throws -> String {
  let process = Process()
  process.executableURL = URL(filePath: "/usr/bin/env")
  process.arguments = [tool] + arguments
  let output = Pipe()
  process.standardOutput = output
  process.standardError = output
  try process.run()
  let data = output.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return String(decoding: data, as: UTF8.self)
}
